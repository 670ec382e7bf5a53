"""The reward function given to TRL: rollouts -> Trajectories -> the kit's one reward, all of it
logged and stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from mentor_kit.collection.collection import TRAJECTORIES
from mentor_kit.core.problem import known_tools
from mentor_kit.core.records import Record, load_records, save_records
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.judging.verdicts import judge_trajectory
from mentor_kit.metrics.trajectories import record_metrics
from mentor_kit.rewards import Reward, Score
from mentor_kit.rewards.diagnostics import varying_share
from mentor_kit.runs.run import Run
from mentor_kit.students.formats import CallFormat
from mentor_kit.training import processes
from mentor_kit.training.checkpoints import SHARDS
from mentor_kit.training.tracker import Tracker

LOGGED = {"correct": "judge_accuracy", "boxed": "box_rate", "set_match": "set_match",
          "unknown_tool": "unknown_tool",
          "n_calls": "tool_calls", "n_executed": "executed_calls"}
# what a step cost: tokens of the student's rollouts, tool results included; tokens of the teacher's
# trajectories trained on; rows that a white-box teacher read
SAMPLED, TEACHER, FORWARDS = BUDGET = tuple(
    f"budget/{name}" for name in ("sampled_tokens", "teacher_tokens", "teacher_forwards"))


class RewardFunction:
    """Scores each rollout batch, logs its means and stores it as one Parquet shard named after the
    optimizer step.

    Several processes each score their own rollouts; what is logged and stored is of all of them.

    Args:
        records: the training records; the dataset column `record` indexes them.
        reward: the reward being trained on.

    Attributes:
        tracker: gets a table of every batch.
        left_out: scored rollouts of the present batch that are not trained on; stored and counted.
        facts: what else is logged of the present batch.
    """

    __name__ = "reward"  # TRL names the metric after the function

    def __init__(self, format: CallFormat, records: Sequence[Record], reward: Reward, run: Run,
                 producer: str) -> None:
        self.format, self.records, self.reward = format, records, reward
        self.run, self.producer = run, producer
        self.tracker: Tracker | None = None
        self.left_out: list[Record] = []
        self.facts: dict[str, float] = {}

    def __call__(self, **batch: Any) -> list[float]:
        return [s.total for s in self.score_batch(**batch)]

    def score_batch(
        self,
        *,
        completion_ids: Sequence[Sequence[int]],
        completions: Sequence[Sequence[Mapping[str, Any]]],
        record: Sequence[int],
        trainer_state: Any,
        log_metric: Any,
        trajectory: Sequence[Trajectory] | None = None,
        scored: Sequence[tuple[Record, Score]] | None = None,
        by_teacher: Sequence[bool] | None = None,
        **_: Any,
    ) -> list[Score]:
        """The scores of this process's rollouts; `record` says which training record each one
        answers, `trajectory` comes where the kit's engine sampled, `scored` where it was scored
        already. What a teacher wrote is neither stored nor part of the means."""
        step = trainer_state.global_step + 1
        first = processes.rank() * len(record)  # rollouts are numbered over all processes
        trajectory = trajectory or [
            self.format.trajectory(ids, messages, self.records[index].problem.id,
                                   producer=self.producer, sample=first + i)
            for i, (ids, messages, index)
            in enumerate(zip(completion_ids, completions, record, strict=True))]
        scored = scored or [
            self.score(t, len(ids), self.records[index], step)
            for t, ids, index in zip(trajectory, completion_ids, record, strict=True)]
        own = [not taught for taught in by_teacher or [False] * len(scored)]
        everything = processes.gather([(*pair, index) for pair, index, is_own
                                       in zip(scored, record, own, strict=True) if is_own])
        rollouts, scores, groups = (list(column) for column in zip(*everything, strict=True))
        stored = rollouts + self.left_out
        if processes.is_first():
            save_records(self.run.path(SHARDS) / f"step-{step:06d}.parquet", stored)
            if self.tracker:
                self.tracker.send_rollouts(step, rollouts)
        budget = dict.fromkeys(BUDGET, 0.0)
        budget[SAMPLED] = float(sum(r.trajectory.meta["tokens"] for r in stored))
        means = self.means(rollouts, scores, groups)
        for name, value in {**means, **budget, **self.facts}.items():
            log_metric(name, value)
        return [score for _, score in scored]

    def by_term(self) -> list[TermReward]:
        """The reward as one function a term, for advantages that normalise each by itself; they are
        called in order."""
        weights = {t.name: t.weight for t in self.reward.terms} | ({"gate": 1.0} if self.reward.gate
                                                                   else {})
        shared: list[Score] = []
        return [TermReward(self if i == 0 else None, shared, name, weight)
                for i, (name, weight) in enumerate(weights.items())]

    def score(self, trajectory: Trajectory, tokens: int, teacher: Record,
              step: int) -> tuple[Record, Score]:
        """A rollout of `tokens` tokens that answers a training record, with what is stored of
        it."""
        score = self.reward(teacher.problem, teacher.trajectory, trajectory)
        facts = {"step": step, "reward": score.total, "terms": score.terms, "tokens": tokens}
        # the judge's word, never the training reward
        facts |= judge_trajectory(teacher.problem, trajectory)
        return Record(teacher.problem, trajectory.with_meta(**facts), teacher.trajectory), score

    def means(self, rollouts: Sequence[Record], scores: Sequence[Score],
              groups: Sequence[int]) -> dict[str, float]:
        """Batch means of what is logged, and the share of groups in which each term varies."""
        metrics = [record_metrics(r, known_tools(r.problem)) for r in rollouts]
        means = {name: fmean(float(m[key]) for m in metrics) for key, name in LOGGED.items()}
        names = sorted({t for s in scores for t in s.terms})
        for name in names:
            values = [s.terms.get(name, 0.0) for s in scores]
            means[f"term/{name}"] = fmean(values)
            means[f"varies/{name}"] = varying_share(values, groups)
        return means


class TermReward:
    """One term of a reward, before its weight: TRL weighs it, so the logged reward is the total as
    ever.

    Args:
        reward_function: of the first term only: it scores and stores the batch for all terms.
        shared: where the scores of the batch lie for the other terms.
    """

    def __init__(self, reward_function: RewardFunction | None, shared: list[Score], name: str,
                 weight: float) -> None:
        self.reward_function, self.shared, self.weight = reward_function, shared, weight
        self.name = self.__name__ = name

    def __call__(self, **batch: Any) -> list[float]:
        if self.reward_function is not None:
            self.shared[:] = self.reward_function.score_batch(**batch)
        return [s.terms.get(self.name, 0.0) / self.weight if self.weight else 0.0
                for s in self.shared]


def join_rollouts(run: Run) -> int:
    """Make a run's one trajectory file of its shards. Returns the tokens sampled, tool results
    included."""
    shards = sorted((run.dir / SHARDS).glob("step-*.parquet"))
    rollouts = [r for shard in shards for r in load_records(shard)]
    save_records(run.path(TRAJECTORIES), rollouts)
    return sum(r.trajectory.meta["tokens"] for r in rollouts)
