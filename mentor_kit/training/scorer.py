"""The reward function given to TRL: rollouts -> Trajectories -> the kit's one reward, with everything logged and stored."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from mentor_kit.evaluation.evaluate import verdict_facts
from mentor_kit.evaluation.metrics import known_names, record_metrics
from mentor_kit.rewards import Reward, Score
from mentor_kit.rewards.laboratory import varying_share
from mentor_kit.runs import Run
from mentor_kit.store import Record, load_records, save_records
from mentor_kit.students.rollout import decode_completion

LOGGED = {"correct": "judge_accuracy", "boxed": "box_rate", "set_match": "set_match", "unknown_tool": "unknown_tool",
          "n_calls": "tool_calls", "n_executed": "executed_calls"}


class RolloutScorer:
    """Scores each rollout batch, logs its means and stores it as one Parquet shard per optimizer step.

    Args:
        records: the training records; the dataset column `record` indexes them.
        reward: the reward being trained on.
    """

    __name__ = "reward"  # TRL names the metric after the function

    def __init__(self, tokenizer: Any, records: Sequence[Record], reward: Reward, run: Run, producer: str) -> None:
        self.tokenizer, self.records, self.reward = tokenizer, records, reward
        self.run, self.producer = run, producer

    def __call__(self, *, completion_ids: Sequence[Sequence[int]], record: Sequence[int], trainer_state: Any,
                 log_metric: Any, **_: Any) -> list[float]:
        step = trainer_state.global_step + 1
        rollouts, scores = [], []
        for sample, (ids, index) in enumerate(zip(completion_ids, record, strict=True)):
            rollout, score = self._score(ids, self.records[index], sample, step)
            rollouts.append(rollout)
            scores.append(score)
        save_records(self.run.path("rollouts") / f"step-{step:06d}.parquet", rollouts)
        for name, value in self._means(rollouts, scores, record).items():
            log_metric(name, value)
        return [s.total for s in scores]

    def _score(self, ids: Sequence[int], teacher: Record, sample: int, step: int) -> tuple[Record, Score]:
        trajectory = decode_completion(self.tokenizer, ids, teacher.problem.id, producer=self.producer, sample=sample)
        score = self.reward(teacher.problem, teacher.trajectory, trajectory)
        facts = {"step": step, "reward": score.total, "terms": score.terms, "tokens": len(ids)}
        facts |= verdict_facts(teacher.problem, trajectory)  # the judge's word, never the training reward
        return Record(teacher.problem, trajectory.with_meta(**facts), teacher.trajectory), score

    def _means(self, rollouts: Sequence[Record], scores: Sequence[Score], groups: Sequence[int]) -> dict[str, float]:
        """Batch means of what is logged, and the share of groups in which each term varies."""
        metrics = [record_metrics(r, known_names(r.problem)) for r in rollouts]
        means = {name: fmean(float(m[key]) for m in metrics) for key, name in LOGGED.items()}
        names = sorted({t for s in scores for t in s.terms})
        for name in names:
            values = [s.terms.get(name, 0.0) for s in scores]
            means[f"term/{name}"] = fmean(values)
            means[f"varies/{name}"] = varying_share(values, groups)
        return means

    def sampled_tokens(self) -> int:
        """Tokens of all stored rollouts, tool results included."""
        shards = sorted(self.run.path("rollouts").glob("step-*.parquet"))
        return sum(r.trajectory.meta["tokens"] for shard in shards for r in load_records(shard))
