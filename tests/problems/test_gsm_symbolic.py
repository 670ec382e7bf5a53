"""GSM-Symbolic problems: determinism, disjoint splits, distractors, and the committed template
tables."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from random import Random

import pytest

from mentor_kit.core.problem import Problem
from mentor_kit.errors import UserError
from mentor_kit.problems import check_problems, load_problems, normalise_question
from mentor_kit.problems import gsm_symbolic as gsm
from mentor_kit.problems.distractors import FAMILIES, SEEN, UNSEEN, add_distractor
from mentor_kit.problems.worked.grounding import CONSTANTS, grounded_numbers, written_numbers
from mentor_kit.teachers.worked_solution import WorkedSolutionTeacher

SIZES = {split: 80 for split in gsm.SPLITS} | {"train": 300}

PINNED = "There are 16 girls in the yard. If there are 2 times the number of boys in the yard, how many kids are in the yard?"  # noqa: E501
PINNED_ANSWER = "48"


@pytest.fixture(scope="module")
def problems():
    return load_problems("gsm_symbolic", 3, SIZES)


def of(problems, split):
    return [p for p in problems if p.split == split]


def test_sizes_order_and_meta(problems):
    assert [(s, len(of(problems, s))) for s in gsm.SPLITS] == [(s, SIZES[s]) for s in gsm.SPLITS]
    assert [p.split for p in problems] == [s for s in gsm.SPLITS for _ in range(SIZES[s])]
    assert all(json.loads(json.dumps(p.meta)) == p.meta and "Give the "
                                                            "result" not in p.question
               for p in problems)
    assert problems[0].id == "gsm_symbolic/3/train/00000"


def test_same_seed_same_problems_and_other_seed_others(problems):
    assert load_problems("gsm_symbolic", 3, SIZES) == problems
    others = load_problems("gsm_symbolic", 4, {"in_domain": 80})
    assert not {p.question for p in others} & {p.question for p in of(problems, "train")}
    assert [p.question for p in others] != [p.question for p in of(problems, "in_domain")]


def test_a_split_does_not_depend_on_what_else_is_asked(problems):
    alone = load_problems("gsm_symbolic", 3, {"in_domain": 40})
    assert alone == of(problems, "in_domain")[:40]


def test_first_question_is_pinned(problems):
    """The same bytes on every machine."""
    first = of(problems, "in_domain")[1]
    assert first.question == PINNED and first.answers == (PINNED_ANSWER,)


def test_splits_share_no_question_even_over_seeds(problems):
    assert len({normalise_question(p.question) for p in problems}) == len(problems)
    train = {p.question for s in range(6)
             for p in load_problems("gsm_symbolic", s, {"train": 300, "pretrain": 300},
                                    distractor_share=0)}
    tested = load_problems("gsm_symbolic", 9,
                           {"in_domain": 300, "validation": 100, "teacher_rejected": 50,
                            "held_out_templates": 100, "longer_solutions": 100})
    assert not train & {p.question for p in tested}


def test_template_tables_are_what_the_probe_finds():
    found = gsm.probe()
    assert {t: n for t, (share, n) in found.items() if share >= gsm.MIN_YIELD} == gsm.CALLS
    assert tuple(sorted(t for t, (share, _) in found.items()
                                              if share <= 0.95)) == gsm.OFTEN_REJECTED


def test_templates_of_splits(problems):
    templates = gsm.choose_templates()
    assert len(templates.seen) == 34 and templates.held_out == (1, 10, 16, 23, 33, 41, 48, 56, 62,
                                                                78)
    assert not set(templates.seen) & set(templates.held_out)
    used = {s: {p.meta["template"] for p in of(problems, s)} for s in gsm.SPLITS}
    assert used["held_out_templates"] == set(templates.held_out) and used["train"] == set(
        templates.seen
    )
    assert all(gsm.CALLS[t] > 3 for t in used["longer_solutions"])
    everything = gsm.choose_templates(template_subset="all")
    assert len(everything.seen) == 75 and everything.held_out == templates.held_out


def test_pretraining_is_broad(problems):
    broad = load_problems("gsm_symbolic", 3, {"pretrain": 200})
    templates = gsm.choose_templates()
    assert {p.meta["template"] for p in broad} == {
        *templates.seen, *templates.held_out, *templates.longer} - set(gsm.OFTEN_REJECTED)
    assert {p.meta["distractor"] for p in broad} == {None, *SEEN, *UNSEEN}


def test_templates_have_equal_shares(problems):
    shares = Counter(p.meta["template"] for p in of(problems, "train"))
    assert max(shares.values()) - min(shares.values()) <= 1


def test_longer_solutions_are_longer(problems):
    teacher = WorkedSolutionTeacher()
    attempts = [teacher.solve(p) for p in of(problems, "longer_solutions")]
    # 85 has three without yards
    assert min(len(a.trajectory.calls) for a in attempts if a.accepted) > 2
    assert max(len(teacher.solve(p).trajectory.calls) for p in of(problems, "train")) <= 3


def test_rejected_items_say_why(problems):
    rejected = of(problems, "teacher_rejected")
    assert all(WorkedSolutionTeacher().solve(p).reason == p.meta["reason"] != "accepted"
               for p in rejected)
    assert {p.meta["reason"] for p in rejected} >= {"needs_floor", "ungrounded_argument"}


def test_distractor_shares_and_families(problems):
    families = {s: [p.meta["distractor"] for p in of(problems, s)] for s in gsm.SPLITS}
    assert set(families["in_domain"]) == set(families["held_out_templates"]) == {None}
    assert set(families["distractor_seen"]) == set(SEEN) and set(
        families["distractor_unseen"]
    ) == set(UNSEEN)
    assert 0.4 < sum(f is not None for f in families["train"]) / 300 < 0.6
    assert set(families["train"]) == {None, *SEEN} and not set(SEEN) & set(UNSEEN)
    plain = load_problems("gsm_symbolic", 3, {"train": 40}, distractor_share=0)
    assert all(p.meta["distractor"] is None for p in plain)


def test_distractors_change_no_reference(problems):
    """The irrelevant number is not the question's, and the teacher's calls never use it."""
    for p in of(problems, "distractor_unseen"):
        attempt = WorkedSolutionTeacher().solve(p)
        sentence = next(s for s in p.question.replace("? ", ". ").split(". ")
                        if irrelevant(s, p.meta["distractor"]))
        (value,) = written_numbers(sentence)
        rest = p.question.replace(sentence, "")
        assert value not in written_numbers(rest) | written_numbers(p.meta["worked_solution"])
        for call in attempt.trajectory.calls if attempt.accepted else ():
            values = [v for a in call.arguments.values()
                      for v in (a if isinstance(a, list) else [a])]
            assert value not in {Fraction(str(v)) for v in values}


def irrelevant(sentence, family):
    stems = [w.split("{n}")[0].split("{name}")[-1].strip() for w in FAMILIES["unseen"][family]]
    return any(stem in sentence for stem in stems)


def test_distractor_positions():
    question = "Dr. Lee has 5 cats. He buys 7 more. How many has he?"
    added = [add_distractor(question, Random(i)) for i in range(40)]
    assert {d.position for d in added} == {"front", "before_last"}
    for d in added:
        assert d.question.endswith(question if d.position == "front" else " How many has he?")
        assert d.question.startswith("Dr. Lee has 5 cats. He buys 7 more. ") == (
            d.position == "before_last"
        )
    assert add_distractor("How many is 5 and 7?", Random(0)).position == "front"


def test_distractor_sentences_ground_nothing_but_their_number():
    for kind in FAMILIES.values():
        for wording in (w for words in kind.values() for w in words):
            assert grounded_numbers(wording.format(n=83, name="Nora")) == {Fraction(83)}
    assert len(SEEN) == 8 and len(UNSEEN) == 4 and CONSTANTS


@pytest.mark.parametrize(("sizes", "options", "message"), [
    ({"test": 1}, {}, "no split 'test'"),
    ({"train": 1}, {"distractor_share": 2}, "not a share"),
    ({"train": 1}, {"held_out": 99}, "held_out=99 is impossible"),
    ({"train": 1}, {"template_subset": "some"}, "template_subset='some'"),
    ({"longer_solutions": 1}, {"template_subset": "all"}, "No template is left"),
])
def test_user_errors(sizes, options, message):
    with pytest.raises(UserError, match=message):
        load_problems("gsm_symbolic", 0, sizes, **options)


def test_load_problems_checks():
    with pytest.raises(UserError, match="Unknown problem source 'gsm'"):
        load_problems("gsm", 0, {})
    a, b = (Problem(f"x/{s}", q, ("1",), "x", s) for s,
            q in (("train", "How many?"), ("in_domain", " how  MANY")))
    with pytest.raises(UserError, match="'x/train' and 'x/in_domain'"):
        check_problems([a, b])
    with pytest.raises(UserError, match="'x/train' occurs twice"):
        check_problems([a, a])
