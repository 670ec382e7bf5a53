"""The stories' promises, split by split, taken literally."""

from __future__ import annotations

import math
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from other_process import printed_by

from mentor_kit.core.problem import Problem
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.errors import UserError
from mentor_kit.problems import load_problems
from mentor_kit.problems.stories.source import SPLITS, load, run_program, structures
from mentor_kit.problems.stories.structures import CHAINS, NAMES, OBJECTS, TRAINED, UNSEEN

ROOT = Path(__file__).parents[2]
TOOLBOX = load_toolbox("arithmetic")
SIZES = dict.fromkeys(SPLITS, 300) | {"train": 2500}
OOD = ("longer_chains", "bigger_numbers", "other_phrasing", "unseen_combinations")


@pytest.fixture(scope="module")
def stories() -> dict[str, list[Problem]]:
    problems = load(7, SIZES)
    return {split: [p for p in problems if p.split == split] for split in SPLITS}


def literals(problem: Problem) -> list[float]:
    values = [v for call in problem.meta["program"] for a in call["arguments"].values()
              for v in (a if isinstance(a, list) else [a])]
    return [v for v in values if not isinstance(v, dict)]


def pairs(problem: Problem) -> set[tuple[str, str]]:
    """Ordered pairs of tools where a result of the first is an argument of the second."""
    program = problem.meta["program"]
    return {(program[v["result"]]["tool"], call["tool"]) for call in program
            for a in call["arguments"].values() for v in (a if isinstance(a, list) else [a])
            if isinstance(v, dict)}


def tool_set(problem: Problem) -> frozenset[str]:
    return frozenset(call["tool"] for call in problem.meta["program"])


def words(problem: Problem) -> set[str]:
    return set(re.findall(r"[A-Za-z]+", problem.question))


def test_sizes_ids_and_source(stories):
    assert {s: len(p) for s, p in stories.items()} == SIZES
    first = stories["train"][0]
    assert (first.id, first.source, first.toolbox) == ("arithmetic_stories/7/train/00000",
                                                       "arithmetic_stories",
                                                       "arithmetic")
    everything = [p for split in stories.values() for p in split]
    assert len({p.id for p in everything}) == len({p.question
                                                   for p in everything}) == sum(SIZES.values())


def test_same_seed_same_problems_whatever_else_is_asked(stories):
    small = load(7, {"unseen_combinations": 20, "train": 50})
    assert small == stories["unseen_combinations"][:20] + stories["train"][:50]
    assert load(8, {"train": 50}) != stories["train"][:50]


def test_same_problems_in_another_process_with_another_hash_seed(stories):
    code = ("from mentor_kit.problems.stories.source import load; "
            "print([p.question for p in load(7, {'train': 40})])")
    printed = printed_by(code, PYTHONHASHSEED="123", PYTHONPATH=str(ROOT), PATH="")
    assert printed == str([p.question for p in stories["train"][:40]])


def test_a_known_story_stays_what_it_is():
    """Guards the generator against silent change: numbers already published would no longer be
    reproducible."""
    assert [(p.question, p.answers[0]) for p in load(0, {"train": 2})] == [
        ("Ana shares 26 toys equally among 6 friends. How many toys are left over?", "2"),
        (
            "A trip takes 29.2 hours. Zoe must pay for each hour begun. For how many hours must "
            "Zoe pay?",  # noqa: E501
            "30",
        ),
    ]


def test_answer_is_the_programs_last_result(stories):
    for problem in (p for split in stories.values() for p in split):
        results = run_program(problem.meta["program"], TOOLBOX)
        assert problem.answers == (results[-1],)
        assert all(len(r) <= 6 for r in results), problem
        assert problem.meta["n_calls"] == len(results) == len(problem.meta["reasoning"])
        assert all(1 <= len(phrase.split()) <= 6 for phrase in problem.meta["reasoning"])


def test_every_literal_stands_in_the_question_and_every_number_is_used(stories):
    for problem in (p for split in stories.values() for p in split):
        written = Counter(re.findall(r"-?\d+(?:\.\d+)?", problem.question))
        assert Counter(str(v) for v in literals(problem)) == written, problem.question


def test_fractions_appear_only_where_they_are_rounded(stories):
    for problem in (p for split in stories.values() for p in split):
        program = problem.meta["program"]
        for k, result in enumerate(run_program(program, TOOLBOX)):
            used_by = {c["tool"] for c in program if {"result": k} in c["arguments"].values()}
            rounded_next = bool(used_by & {"floor", "ceil", "round_number"})
            assert ("." in result) == rounded_next or program[k]["tool"] == "round_number", problem


def test_tools_of_train_are_all_used_and_balanced(stories):
    used = Counter(call["tool"] for p in stories["train"] for call in p.meta["program"])
    assert set(used) == set(TOOLBOX.names)
    assert min(used.values()) / used.total() >= 0.03
    assert max(used.values()) / used.total() <= 0.25
    assert {p.meta["n_calls"] for p in stories["train"]} == {1, 2, 3}


def test_every_structure_is_met_in_every_split_that_draws_from_it(stories):
    assert {p.meta["structure"] for p in stories["longer_chains"]} == {s.id for s in CHAINS}
    assert {p.meta["structure"] for p in stories["unseen_combinations"]} == {s.id for s in UNSEEN}
    for split in ("train", "validation", "in_domain", "other_phrasing", "bigger_numbers"):
        assert {p.meta["structure"] for p in stories[split]} == {s.id for s in TRAINED}, split


def test_pretraining_is_broad(stories):
    broad = [p for p in load(7, SIZES | {"pretrain": 1500}) if p.split == "pretrain"]
    assert {p.meta["structure"] for p in broad} == {s.id for s in TRAINED + CHAINS + UNSEEN}
    by_id = {s.id: s for s in TRAINED}
    assert {p.meta["phrasing"] >= len(by_id[p.meta["structure"]].phrasings) for p in broad
            if p.meta["structure"] in by_id} == {False, True}
    for split in ("validation", "in_domain", "other_phrasing"):
        assert not numbers_of(stories[split]) & numbers_of(broad)
    assert not {p.question for p in broad} & {p.question for split, made in stories.items()
                                              if split != "pretrain" for p in made}


def numbers_of(problems: list[Problem]) -> set[tuple]:
    return {(p.meta["structure"], *literals(p)) for p in problems}


def test_in_domain_has_trained_sentences_with_numbers_no_training_seed_uses(stories):
    trained = numbers_of(stories["train"]) | numbers_of(load(99, {"train": 1500}))
    sentences = {(p.meta["structure"], p.meta["phrasing"]) for p in stories["train"]}
    for split in ("validation", "in_domain"):
        assert not numbers_of(stories[split]) & trained
        assert {(p.meta["structure"], p.meta["phrasing"]) for p in stories[split]} <= sentences
    assert not numbers_of(stories["validation"]) & numbers_of(stories["in_domain"])


def test_longer_chains_are_longer_and_use_only_trained_pairs(stories):
    # with the answer: five turns
    assert {p.meta["n_calls"] for p in stories["longer_chains"]} == {4}
    trained = set().union(*(pairs(p) for p in stories["train"]))
    assert all(pairs(p) <= trained for p in stories["longer_chains"])


def test_bigger_numbers_exceed_every_trained_number_of_their_structure(stories):
    largest: dict[str, float] = {}
    for problem in stories["train"] + stories["in_domain"]:
        top = max(map(abs, literals(problem)))
        largest[problem.meta["structure"]] = max(top, largest.get(problem.meta["structure"], 0))
    for problem in stories["bigger_numbers"]:
        assert max(map(abs, literals(problem))) > largest[problem.meta["structure"]], problem
    by_id = {s.id: s for s in TRAINED}
    for problem in stories["bigger_numbers"]:
        structure = by_id[problem.meta["structure"]]
        names = [n for _, _, *arguments in structure.program for a in arguments
                 for n in (a if isinstance(a, list) else [a]) if isinstance(n, str)]
        for name, value in zip(names, literals(problem), strict=True):
            assert (abs(value) > structure.trained_limit(name)) == (
                structure.slots[name].kind != "keep"
            ), problem


def test_other_phrasing_never_uses_a_trained_sentence(stories):
    def skeleton(problem: Problem) -> str:
        text = re.sub(rf"\b({'|'.join(NAMES)})\b", "N", problem.question)
        return re.sub(r"-?\d+(?:\.\d+)?", "0", re.sub(rf"\b({'|'.join(OBJECTS)})\b", "o", text))

    trained = {skeleton(p) for p in stories["train"] + stories["validation"] + stories["in_domain"]}
    assert not {skeleton(p) for p in stories["other_phrasing"]} & trained
    assert all(len(s.phrasings) >= 3 and len(s.others) >= 2 for s in TRAINED)


def test_unseen_combinations_are_sets_and_pairs_held_out_of_training(stories):
    sets = {tool_set(p) for p in stories["train"]}
    trained = set().union(*(pairs(p) for p in stories["train"]))
    tools = set().union(*sets)
    for problem in stories["unseen_combinations"]:
        assert tool_set(problem) not in sets or pairs(problem) - trained
        assert pairs(problem) - trained, problem.meta["structure"]
        assert tool_set(problem) <= tools and problem.meta["n_calls"] <= 3


def test_out_of_domain_splits_use_no_word_that_training_lacks(stories):
    known = set().union(*map(words, stories["train"]))
    assert len(known) < 260
    for split in OOD:
        assert not set().union(*map(words, stories[split])) - known, split


HAND = {  # program without its values -> the answer by plain Python, independent of the toolbox
    "square_side": lambda a: math.isqrt(a), "left_over": lambda a, b: a % b,
        "below_zero": lambda a: -a,
    "boxes_needed": lambda a, b: -(-a // b), "full_boxes": lambda a, b: a // b,
        "difference": lambda a, b: abs(a - b),
    "growth": lambda b, c, a: a * b**c, "growth_and_loss": lambda b, c, a, e: a * b**c - e,
    "fence": lambda a, k: k * math.isqrt(a), "unit_price": lambda a, b, c: a // b * c,
    "average": lambda a, b, c, k: (a + b + c) // k, "boxes_cost": lambda a, b, c: -(-a // b) * c,
    "rounded_average": lambda a, b, c, e, k: round(Fraction(a + b + c + e, k)),
    "chain_two_kinds_left_over": lambda a, b, c, e, f: (a * b + c * e) % f,
    "chain_growth_share": lambda b, c, a, e, f: (a * b**c - e) // f,
    "chain_pay_off_target": lambda a, b, c, e, f: abs(a + b + c - e) * f,
    "groups_to_square": lambda a, b: math.isqrt(a * b), "growth_left_over": lambda b, c,
        e: b**c % e,
}


@pytest.mark.parametrize("structure", HAND)
def test_answers_against_plain_python(stories, structure):
    found = [p for split in stories.values() for p in split if p.meta["structure"] == structure]
    assert len(found) >= 10
    for problem in found:
        assert problem.answers == (str(HAND[structure](*literals(problem))),), problem.question


def test_calls_between_limits_are_trained_and_the_rest_is_longer():
    two = load(1, {"train": 60, "longer_chains": 60, "unseen_combinations": 60}, min_calls=2,
               max_calls=2)
    calls = {s: {p.meta["n_calls"] for p in two if p.split == s} for s in ("train", "longer_chains",
                                                                          "unseen_combinations")}
    assert calls == {"train": {2}, "longer_chains": {3, 4}, "unseen_combinations": {2}}


@pytest.mark.parametrize(("sizes", "options", "message"), [
    ({"test": 3}, {}, "no split 'test'"),
    ({"train": -1}, {}, "must not be negative"),
    ({"train": 1}, {"min_calls": 3, "max_calls": 2}, "min_calls=3, max_calls=2 is not a range"),
    ({"train": 1}, {"min_calls": 0}, "is not a range"),
    ({"unseen_combinations": 1}, {"max_calls": 1}, "has no stories"),
    ({"longer_chains": 1}, {"max_calls": 4}, "has no stories"),
])
def test_bad_requests_are_user_errors(sizes, options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        load(0, sizes, **options)
    with pytest.raises(UserError, match="must not be negative"):
        load(-1, {"train": 1})


def test_the_offline_teacher_accepts_every_story(stories):
    from mentor_kit.teachers.worked_solution import WorkedSolutionTeacher

    teacher = WorkedSolutionTeacher()
    for problem in (p for split in stories.values() for p in split[:150]):
        attempt = teacher.solve(problem)
        assert attempt.accepted, (attempt.reason, problem)
        assert [c.name for c in attempt.trajectory.calls] == [c["tool"]
                                                              for c in problem.meta["program"]]
        assert len(attempt.trajectory.turns) == problem.meta["n_calls"] + 1 <= 5


def test_the_source_is_known_by_name_and_passes_its_checks():
    assert load_problems("arithmetic_stories", 3, {"train": 5}) == load(3, {"train": 5})
    assert {s.n_calls for s in structures("train", 1, 2)} == {1, 2}
