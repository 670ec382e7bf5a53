"""Ask a student or a teacher problems, score what came back, and keep every item.

Every asked item is in the denominator: what is cut off, ends at the turn limit, crashes or has no
answer is wrong and counted by kind. A student answers by `rollout(problems, sampling)`; a teacher
(an endpoint, a local model, the worked solutions) is asked as in a collection, so that it can be a
row of the same table: it is right where the judge says so, as any student, also where the attempt
is no reference (`accepted` in its meta says which are).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mentor_kit.collection.collection import as_references
from mentor_kit.core.problem import Problem, known_tools, sample_indices
from mentor_kit.core.records import Record
from mentor_kit.core.trajectory import Trajectory, Turn
from mentor_kit.errors import UserError
from mentor_kit.judging.verdicts import judge_answers, judge_trajectory
from mentor_kit.metrics.trajectories import summarise

if TYPE_CHECKING:
    from mentor_kit.students.rollout import Sampling

# items in a row (or a batch) at which a solver raises, after which the failure is no item's
PATIENCE = 16
Scorer = Callable[[Sequence[Problem], Sequence[Trajectory]], list[dict[str, Any]]]
Keep = Callable[[int, Trajectory], None]


def evaluate(solver: Any, problems: Sequence[Problem], references: Mapping[str, Trajectory],
             sampling: Sampling | None = None, *, facts: Mapping[str, Any] | None = None,
             batch_size: int = 128,
             scorer: Scorer = judge_answers, samples: Sequence[int] | None = None) -> list[Record]:
    """Ask every problem once and score it.

    Args:
        solver: a Student, or a teacher.
        references: problem id -> teacher trajectory, where there is one.
        facts: added to every trajectory's meta (method, seed, ...).
        batch_size: the most rollouts of a student under way.
        scorer: verdicts of all answers: at least `correct`, `judged_by`, `failure`; further numbers
            under `scores`.
        samples: the sample index of each problem; without it, how often the problem stood before
            it.

    Returns:
        One judged record per problem, in order.

    Raises:
        Exception: what the solver raised, where it raised for every one of several items: that is
            no item's failure.
    """
    found: dict[int, Trajectory] = {}
    indices = sample_indices(problems) if samples is None else samples
    ask(Asked(solver, problems, indices, sampling, batch_size), found.__setitem__)
    records = [Record(p, found[i].with_meta(**(facts or {})), references.get(p.id)) for i,
               p in enumerate(problems)]
    return scored(records, scorer)


def scored(records: Sequence[Record], scorer: Scorer) -> list[Record]:
    """The records with the scorer's verdicts in their trajectories' meta."""
    verdicts = scorer([r.problem for r in records], [r.trajectory for r in records])
    return [replace(r, trajectory=r.trajectory.with_meta(**v)) for r,
            v in zip(records, verdicts, strict=True)]


@dataclass(frozen=True)
class Asked:
    """Who is asked what: problem i as sample `samples[i]`; a student has `batch_size` rollouts
    under way at most."""

    solver: Any
    problems: Sequence[Problem]
    samples: Sequence[int]
    sampling: Sampling | None = None
    batch_size: int = 128

    @property
    def is_student(self) -> bool:
        return hasattr(self.solver, "rollout")

    def ask(self, places: Sequence[int], keep: Keep) -> Exception | None:
        """Have some of the problems answered. Returns what the solver raised.

        Raises:
            UserError: what a user did wrong.
            Exception: what `keep` raised.
        """
        ours: list[Exception] = []

        def kept(place: int, answer: Trajectory) -> None:
            try:
                keep(place, answer)
            except Exception as error:
                ours.append(error)
                raise

        try:
            (self._roll_out if self.is_student else self._attempt)(places, kept)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - kept with an item, or raised where all meet it
            if ours:
                raise ours[0] from None
            return error
        return None

    def _roll_out(self, places: Sequence[int], keep: Keep) -> None:
        from mentor_kit.students.rollout import Sampling, rollouts

        problems, samples = [self.problems[i] for i in places], [self.samples[i] for i in places]
        for number, answer in rollouts(self.solver, problems, self.sampling or Sampling(),
                                       batch_size=self.batch_size,
                                       samples=samples):
            keep(places[number], answer)

    def _attempt(self, places: Sequence[int], keep: Keep) -> None:
        """A teacher's attempts, accepted or not; without any call it is an empty turn that finished
        by `error`."""
        from mentor_kit.collection.collect import as_record
        from mentor_kit.collection.dispatch import ask_all

        pairs = [(self.problems[i], self.samples[i]) for i in places]
        open_places = defaultdict(list)
        for (problem, sample), place in zip(pairs, places, strict=True):
            open_places[problem.id, sample].append(place)

        def made(problem: Problem, sample: int, found: Any) -> None:
            answer = as_record(problem, sample, found, self.solver.name).trajectory
            keep(open_places[problem.id, sample].pop(), replace(answer, sample=sample))

        ask_all(self.solver, pairs, made)

    def lost(self, place: int, error: Exception) -> Trajectory:
        """The answer to a problem at which the solver raised: an empty turn, the error in the
        meta."""
        producer = f"{'student' if self.is_student else 'teacher'}:{self.solver.name}"
        facts = {"error": f"{type(error).__name__}: {error}"[:300]}
        return Trajectory(self.problems[place].id, (Turn("", "error"),), producer,
                          self.samples[place], facts)


def ask(asked: Asked, keep: Keep, before: int = 0) -> None:
    """Have every problem answered; `keep` gets the place and the answer of each as soon as it is
    there.

    Where the solver raises, the next `batch_size` open problems (all that were under way are among
    them) are asked one
    by one, so that one bad item costs only itself: it is kept with its error and counts as wrong.

    Args:
        before: how many other problems this solver has answered: then a few that fail may be the
            last, bad ones.

    Raises:
        Exception: what the solver raised, where it raised for every one of several items, or for a
            batch in a row.
    """
    left = dict.fromkeys(range(len(asked.problems)))
    errors: list[Exception] = []  # since the last answer

    def made(place: int, answer: Trajectory) -> None:
        del left[place]
        errors.clear()
        keep(place, answer)

    while left and (error := asked.ask(list(left), made)):
        only = len(left) == 1
        for place in list(left)[:asked.batch_size]:
            alone = error if only else asked.ask([place], made)
            if alone:
                del left[place]
                errors.append(alone)
                keep(place, asked.lost(place, alone))
        never = not before and 1 < len(errors) == len(asked.problems)
        if never or len(errors) >= max(asked.batch_size, PATIENCE):
            raise errors[-1]


def validation_metrics(student: Any, validation: Sequence[Record]) -> dict[str, float]:
    """Greedy accuracy and teacher likeness on validation records, which are accepted attempts of
    the teacher."""
    records = evaluate(student, [r.problem for r in validation], as_references(validation))
    summary = summarise(records, known_tools(validation[0].problem))
    keys = {"accuracy": "correct", "set_match": "set_match", "unknown_tool": "unknown_tool",
            "box_rate": "boxed",
            "tool_calls": "n_calls", "executed_calls": "n_executed",
            "similarity": "similarity_pooled"}
    return {name: summary[key] for name, key in keys.items()}


def sample_groups(
    student: Any, teacher: Sequence[Record], group_size: int, sampling: Sampling
) -> list[Record]:
    """`group_size` sampled and judged rollouts of each accepted attempt's problem, group by
    group."""
    asked = [r.problem for r in teacher for _ in range(group_size)]
    return evaluate(student, asked, as_references(teacher), sampling)


def teacher_facts(attempts: Sequence[Record]) -> dict[str, dict[str, float]]:
    """Problem id -> `teacher_correct`: the share of the teacher's attempts at it that the judge
    calls right.

    The teacher's accuracy in tables is the mean of this over every asked item, the measure of any
    student. An attempt may be right and yet be no reference (`accepted`): its answer came about by
    calls that nobody should learn.
    """
    right = defaultdict(list)
    for r in attempts:
        right[r.problem.id].append(judge_trajectory(r.problem, r.trajectory)["correct"])
    return {name: {"teacher_correct": sum(verdicts) / len(verdicts)} for name,
            verdicts in right.items()}
