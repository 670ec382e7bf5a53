"""The registry: its table and tools, what each split holds, what no split shares, and that guessing
does not pay."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from itertools import pairwise
from random import Random

import pytest

from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.errors import UserError
from mentor_kit.problems import load_problems
from mentor_kit.problems.registry.source import MOST_HOPS, SPLITS, load, read_hops
from mentor_kit.problems.registry.world import (
    ATTRIBUTES,
    DATA,
    ENTITIES,
    RELATIONS,
    TABLE,
    UNSEEN,
    WORDS,
    follow,
)
from mentor_kit.problems.worked.calls import work_out
from mentor_kit.teachers.half_learned import SIBLINGS

SIZES = dict.fromkeys(SPLITS, 128)
NARROW = [s for s in SPLITS if s != "pretrain"]


@pytest.fixture(scope="module")
def problems():
    return load_problems("registry", 0, SIZES)


def of(problems, split):
    return [p for p in problems if p.split == split]


def start(problem):
    return problem.meta["program"][0]["arguments"]["person"]


def path(problem):
    """Everybody on whom a call is made."""
    return [start(problem), *follow(start(problem), tuple(problem.meta["chain"]))][:-1]


def program(problem):
    return start(problem), tuple(problem.meta["chain"])


# --- the table and its tools


def test_the_world_has_the_sizes_that_it_promises():
    assert (len(ENTITIES.seen), len(ENTITIES.held_out)) == (48, 16)
    assert (len(RELATIONS.seen), len(RELATIONS.held_out)) == (6, 3)
    assert (len(ATTRIBUTES.seen), len(ATTRIBUTES.held_out)) == (2, 1)
    words = [w for three in WORDS.values() for w in three]
    assert {len(three) for three in WORDS.values()} == {3}
    assert len({*words, *ENTITIES.all}) == len(words) + 64, "a word means one thing"
    assert len(range(*DATA["numbers"])) >= 200


def test_relations_lead_everywhere_equally_often_and_numbers_are_nobody_elses():
    for relation in RELATIONS.all:
        assert sorted(TABLE[relation].values()) == sorted(ENTITIES.all)
        assert all(a != b for a, b in TABLE[relation].items())
    numbers = [n for a in ATTRIBUTES.all for n in TABLE[a].values()]
    assert len(set(numbers)) == 3 * 64
    assert all(n in map(str, range(*DATA["numbers"])) for n in numbers)


def test_the_table_is_the_same_in_every_process_and_version():
    text = repr([(tool, sorted(TABLE[tool].items())) for tool in TABLE] + sorted(UNSEEN))
    assert sha256(text.encode()).hexdigest()[:16] == "35e5021325d1fa3a"


def test_tools_look_up_the_table_and_refuse_the_rest():
    box = load_toolbox("registry")
    assert box.names == RELATIONS.all + ATTRIBUTES.all
    for tool in box.names:
        assert box.execute(tool, {"person": "Anna"}).content == TABLE[tool]["Anna"]
    for tool, arguments in (("boss", {"person": "Nobody"}), ("boss", {"name": "Anna"}),
                            ("boss", {"person": 3}), ("manager", {"person": "Anna"})):
        assert not box.execute(tool, arguments).ok
    assert box.as_functions()[0](person="Anna") == TABLE["boss"]["Anna"]


def test_a_quarter_of_the_pairs_is_unseen_and_every_tool_is_in_seen_ones():
    pairs = {(a, b) for a in RELATIONS.seen for b in RELATIONS.seen + ATTRIBUTES.seen if a != b}
    assert pairs > UNSEEN and len(UNSEEN) == round(len(pairs) / 4)
    seen = pairs - UNSEEN
    assert {a for a, _ in seen} == set(RELATIONS.seen)
    assert {b for _, b in seen} == {*RELATIONS.seen, *ATTRIBUTES.seen}


# --- the splits


def test_every_question_is_solved_by_its_program(problems):
    for problem in problems:
        calls, reason = work_out(problem)
        assert reason == "accepted", problem
        assert [c.name for c in calls] == problem.meta["chain"]
        assert len(calls) == problem.meta["n_calls"] <= MOST_HOPS


def test_questions_read_in_the_order_of_their_form():
    box = load(0, {"train": 1, "phrasing": 40})
    first, *others = box
    words = first.meta["words"]
    assert first.question == (f"What is the {' of the '.join(reversed(words))} of {start(first)}?")
    for problem in others:
        places = [problem.question.index(w) for w in (start(problem), *problem.meta["words"])]
        assert problem.meta["form"] in "BC" and places == sorted(places)


@pytest.mark.parametrize("split", NARROW)
def test_narrow_splits_move_one_thing_each(problems, split):
    rows = of(problems, split)
    chains = [p.meta["chain"] for p in rows]
    lengths = {p.meta["n_calls"] for p in rows}
    assert lengths == ({4, 5} if split == "longer" else {2, 3})
    assert {p.meta["form"] for p in rows} == ({"B", "C"} if split == "phrasing" else {"A"})
    ranks = {WORDS[t].index(w) for p in rows
             for t, w in zip(p.meta["chain"], p.meta["words"], strict=True)}
    assert ranks == ({2} if split == "synonyms" else {0, 1})
    new = {sum(t in RELATIONS.held_out + ATTRIBUTES.held_out for t in c) for c in chains}
    assert new == {"one_new_tool": {1}, "new_tools": {2, 3}}.get(split, {0})
    unseen = [any(pair in UNSEEN for pair in pairwise(c)) for c in chains]
    assert set(unseen) == {split == "unseen_pairs"}
    starts = {start(p) for p in rows}
    if split == "new_entities":
        assert starts <= set(ENTITIES.held_out)
    else:
        assert {person for p in rows for person in path(p)} <= set(ENTITIES.seen)
    facts = [p for p in rows if not p.question.startswith(("What", "Tell", "Start"))]
    assert len(facts) == (len(rows) if split == "distractor" else 0)


def test_chains_of_both_lengths_are_equally_frequent():
    counts = Counter(p.meta["n_calls"] for p in load(0, {"train": 1000}))
    assert abs(counts[2] - counts[3]) < 150


def test_pretraining_is_broad():
    rows = load(0, {"pretrain": 2000})
    assert {p.meta["n_calls"] for p in rows} == set(range(1, MOST_HOPS + 1))
    assert {t for p in rows for t in p.meta["chain"]} == set(WORDS)
    assert {w for p in rows for w in p.meta["words"]} == {w for ws in WORDS.values() for w in ws}
    assert {p.meta["form"] for p in rows} == set("ABC")
    assert {start(p) for p in rows} == set(ENTITIES.all)
    assert {pair for p in rows for pair in pairwise(p.meta["chain"])} > UNSEEN
    assert any(not p.question.startswith(("What", "Tell", "Start")) for p in rows)


def test_the_fact_in_front_is_true_and_no_call_gives_it(problems):
    for problem in of(problems, "distractor"):
        fact = problem.question.partition(". ")[0].split()
        a, b, w = (fact[5], fact[0], fact[3]) if fact[1] == "is" else (fact[0], fact[2], fact[4])
        tool = next(t for t, words in WORDS.items() if w in words)
        assert TABLE[tool][a] == b
        assert (tool, a) not in set(zip(problem.meta["chain"], path(problem), strict=True))


def test_no_evaluated_program_is_ever_trained_on_whatever_the_seed():
    trained = {program(p) for seed in (0, 1) for p in load(seed, {"train": 500, "pretrain": 2000})}
    validated = {program(p) for p in load(0, {"validation": 128})}
    evaluated = {program(p) for seed in (0, 1)
                 for p in load(seed, {s: 128 for s in SPLITS[3:]})}
    assert not trained & validated and not trained & evaluated and not validated & evaluated


def test_same_seed_same_questions_and_a_smaller_size_is_a_prefix():
    longer = load(3, {"longer": 5})
    assert load(3, {"train": 20, "longer": 5}) == load(3, {"train": 40})[:20] + longer
    assert load(3, {"train": 20}) != load(4, {"train": 20})


def test_other_hops_and_forms():
    rows = load(0, {"train": 40, "longer": 20, "phrasing": 20}, hops="3-4", form="C")
    assert {p.meta["n_calls"] for p in of(rows, "train")} == {3, 4}
    assert {p.meta["n_calls"] for p in of(rows, "longer")} == {5, 6}
    assert {p.meta["form"] for p in of(rows, "train")} == {"C"}
    assert {p.meta["form"] for p in of(rows, "phrasing")} == {"A", "B"}
    assert read_hops(2) == (2, 2)


# --- guessing


def test_no_guess_is_lucky():
    """Right by chance: other tools than the right ones, 2 in 100 at most; the best constant answer
    to each attribute, 6 in 100 (few people are evaluated); a number drawn from those in use, 1 in
    192."""
    problems = [p for seed in range(4) for p in load(seed, {"in_domain": 400})]
    answers: dict[str, Counter] = {}
    for problem in problems:
        answers.setdefault(problem.meta["chain"][-1], Counter())[problem.answers[0]] += 1
    assert sum(max(c.values()) for c in answers.values()) / len(problems) < 0.06
    rng, drawn, lucky = Random(0), 0, 0
    for problem in problems * 5:
        relations = [rng.choice(RELATIONS.seen) for _ in problem.meta["chain"][1:]]
        chain = [*relations, rng.choice(ATTRIBUTES.seen)]
        if chain != problem.meta["chain"]:
            drawn += 1
            lucky += follow(start(problem), tuple(chain))[-1] == problem.answers[0]
    assert lucky / drawn < 0.02


def test_each_kind_of_mistake_costs_the_answer(problems):
    wrong = Counter()
    rows = [p for p in of(problems, "in_domain") if p.meta["n_calls"] == 3]
    for problem in rows:
        first, second, last = problem.meta["chain"]
        mistakes = {"reversed": (second, first, last), "short": (first, last),
                    "sibling": (SIBLINGS[first], second, last), "twice": (first, first, last)}
        for name, chain in mistakes.items():
            wrong[name] += follow(start(problem), chain)[-1] != problem.answers[0]
    assert all(n > 0.9 * len(rows) for n in wrong.values()), wrong


# --- refusals


@pytest.mark.parametrize("options", [{"hops": "0-2"}, {"hops": "3-5"}, {"hops": "3-2"},
                                     {"hops": "two"}, {"form": "D"}])
def test_bad_options_are_refused(options):
    with pytest.raises(UserError, match=str(next(iter(options.values())))):
        load_problems("registry", 0, {"train": 1}, **options)


def test_bad_splits_sizes_and_seeds_are_refused():
    with pytest.raises(UserError, match="no split 'test'"):
        load(0, {"test": 1})
    with pytest.raises(UserError, match="negative"):
        load(-1, {"train": 1})
    with pytest.raises(UserError, match="ask for fewer"):
        load(0, {"new_tools": 2000}, hops="2")
