"""Ask a student or a teacher problems, score the answers, and keep every item.

Every item is in the denominator: an answer that is cut off, ends at the turn limit, crashes or is
missing is wrong and counted by kind. A student answers by `rollout(problems, sampling)`. A teacher
(an endpoint, a local model, the worked solutions) is asked as in a collection, so that it can be a
row of the same table: it is right where the judge says so, as any student, also where the attempt
is not a reference (`accepted` in its meta says which are).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mentor_kit.collection.collection import as_references
from mentor_kit.core.problem import Problem, known_tools, sample_indices
from mentor_kit.core.records import Record
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.judging.verdicts import judge_answers, judge_trajectory
from mentor_kit.metrics.trajectories import by_problem, summarise

if TYPE_CHECKING:
    from mentor_kit.students.rollout import Sampling

# problems in a row (or a batch) at which a solver raises, after which it is no problem's fault
PATIENCE = 16
# names of `validation_metrics` -> of `summarise`
VALIDATED = {"accuracy": "correct", "set_match": "set_match", "unknown_tool": "unknown_tool",
             "box_rate": "boxed", "tool_calls": "n_calls", "executed_calls": "n_executed",
             "similarity": "similarity_pooled"}
Scorer = Callable[[Sequence[Problem], Sequence[Trajectory]], list[dict[str, Any]]]
OnAnswer = Callable[[int, Trajectory], None]


def evaluate(
    solver: Any,
    problems: Sequence[Problem],
    references: Mapping[str, Trajectory],
    sampling: Sampling | None = None,
    *,
    meta: Mapping[str, Any] | None = None,
    batch_size: int = 128,
    scorer: Scorer = judge_answers,
    samples: Sequence[int] | None = None,
) -> list[Record]:
    """Ask every problem once and score it.

    Args:
        solver: a Student, or a teacher.
        references: problem id -> teacher trajectory, where there is one.
        meta: added to every trajectory's meta (method, seed, ...).
        batch_size: the most rollouts of a student under way.
        scorer: verdicts of all answers: at least `correct`, `judged_by`, `failure`; further numbers
            under `scores`.
        samples: the sample index of each problem; without it, how often the problem stood before
            it.

    Returns:
        One judged record per problem, in order.

    Raises:
        Exception: what the solver raised, where no single problem is at fault (see `answer_all`).
    """
    answers: dict[int, Trajectory] = {}
    samples = sample_indices(problems) if samples is None else samples
    request = EvalRequest(solver, problems, samples, sampling, batch_size)
    answer_all(request, answers.__setitem__)
    records = [Record(p, answers[i].with_meta(**(meta or {})), references.get(p.id))
               for i, p in enumerate(problems)]
    return scored(records, scorer)


def scored(records: Sequence[Record], scorer: Scorer) -> list[Record]:
    """The records with the scorer's verdicts in their trajectories' meta."""
    verdicts = scorer([r.problem for r in records], [r.trajectory for r in records])
    return [replace(r, trajectory=r.trajectory.with_meta(**v))
            for r, v in zip(records, verdicts, strict=True)]


@dataclass(frozen=True)
class EvalRequest:
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

    def answer(self, indices: Sequence[int], on_answer: OnAnswer) -> None:
        """Have some of the problems answered; `on_answer` gets the index and the answer of each."""
        problems, samples = [self.problems[i] for i in indices], [self.samples[i] for i in indices]
        if self.is_student:
            from mentor_kit.students.rollout import Sampling, rollouts

            for number, answer in rollouts(self.solver, problems, self.sampling or Sampling(),
                                           batch_size=self.batch_size, samples=samples):
                on_answer(indices[number], answer)
            return
        from mentor_kit.collection.collect import as_record
        from mentor_kit.collection.dispatch import ask_all

        waiting = defaultdict(list)
        for index in indices:
            waiting[self.problems[index].id, self.samples[index]].append(index)

        def on_attempt(problem: Problem, sample: int, attempt: Any) -> None:
            # accepted or not; one without any call is an empty turn that finished by `error`
            answer = as_record(problem, sample, attempt, self.solver.name).trajectory
            on_answer(waiting[problem.id, sample].pop(), replace(answer, sample=sample))

        ask_all(self.solver, list(zip(problems, samples, strict=True)), on_attempt)

    def failed(self, index: int, error: Exception) -> Trajectory:
        """The answer to a problem at which the solver raised: an empty turn, the error in the
        meta."""
        producer = f"{'student' if self.is_student else 'teacher'}:{self.solver.name}"
        meta = {"error": f"{type(error).__name__}: {error}"[:300]}
        return Trajectory(self.problems[index].id, (Turn("", "error"),), producer,
                          self.samples[index], meta)


def answer_all(request: EvalRequest, keep: OnAnswer, before: int = 0) -> None:
    """Have every problem answered; `keep` gets the index and the answer of each as soon as it is
    there.

    What is raised, and by whom, decides:

    1. A UserError, and whatever `keep` raises, ends the evaluation.
    2. Where the solver raises, the next `batch_size` open problems (all that were under way are
       among them) are asked one by one.
    3. A problem at which it raises alone is kept as a wrong answer with the error.
    4. Where it raises at every one of several problems, or at a batch of them in a row, that is no
       problem's fault: the last error is raised.

    Args:
        before: how many other problems this solver has answered: then a few that fail may be the
            last, bad ones (rule 4).
    """
    answers = _Answers(len(request.problems), keep)
    while answers.open:
        error = _raised_at(request, list(answers.open), answers)
        if error is None:
            return
        only = len(answers.open) == 1
        for index in list(answers.open)[:request.batch_size]:
            alone = error if only else _raised_at(request, [index], answers)
            if alone:
                answers.fail(index, request.failed(index, alone), alone)
        errors = answers.errors
        all_failed = not before and 1 < len(errors) == len(request.problems)
        if all_failed or len(errors) >= max(request.batch_size, PATIENCE):
            raise errors[-1]


class _Answers:
    """The problems still open, what the solver raised since the last answer, and what keeping an
    answer raised."""

    def __init__(self, count: int, keep: OnAnswer) -> None:
        self.open, self.keep = dict.fromkeys(range(count)), keep
        self.errors: list[Exception] = []
        self.keep_error: Exception | None = None

    def add(self, index: int, answer: Trajectory) -> None:
        del self.open[index]
        self.errors.clear()
        try:
            self.keep(index, answer)
        except Exception as error:
            self.keep_error = error
            raise

    def fail(self, index: int, answer: Trajectory, error: Exception) -> None:
        del self.open[index]
        self.errors.append(error)
        self.keep(index, answer)


def _raised_at(request: EvalRequest, indices: Sequence[int], answers: _Answers) -> Exception | None:
    """Have some problems answered; returns what the solver raised."""
    try:
        request.answer(indices, answers.add)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - by the rules of `answer_all`
        if answers.keep_error:
            raise answers.keep_error from None
        return error
    return None


def validation_metrics(student: Any, validation: Sequence[Record]) -> dict[str, float]:
    """Greedy accuracy and similarity to the teacher on validation records, which are accepted
    attempts of the teacher."""
    records = evaluate(student, [r.problem for r in validation], as_references(validation))
    summary = summarise(records, known_tools(validation[0].problem))
    return {name: summary[key] for name, key in VALIDATED.items()}


def sample_groups(student: Any, teacher: Sequence[Record], group_size: int,
                  sampling: Sampling) -> list[Record]:
    """`group_size` sampled and judged rollouts of each accepted attempt's problem, group by
    group."""
    problems = [r.problem for r in teacher for _ in range(group_size)]
    return evaluate(student, problems, as_references(teacher), sampling)


def teacher_accuracy(attempts: Sequence[Record]) -> dict[str, float]:
    """Problem id -> the share of the teacher's attempts at it that the judge calls right.

    The teacher's accuracy in tables is the mean of this over every problem, the measure of any
    student. An attempt may be right and yet be no reference (not `accepted`): its answer came about
    by calls that nobody should learn.
    """
    right = {problem: [judge_trajectory(r.problem, r.trajectory)["correct"] for r in records]
             for problem, records in by_problem(attempts).items()}
    return {problem: sum(verdicts) / len(verdicts) for problem, verdicts in right.items()}
