"""Rollouts of methods that do more with a group than sample and score it.

- `teacher_traces`: the teacher's trajectory stands in each group beside the student's rollouts
  (LUFFY, arXiv 2504.14945).
- `replayed_groups`: a share of the groups goes on from the teacher's first turns, a group's
  rollouts all from the same ones, so that they can be compared (the idea of ReOPD, arXiv
  2607.04763, under a reward).
- `drop_flat_groups`: groups without reward differences teach nothing. They are left out of the
  update, or other problems are asked in their place (DAPO, arXiv 2503.14476).
- `advantage="turn"`: every turn has an advantage of its own beside the rollout's (MatchTIR, arXiv
  2601.10712).
- method `rft`: only right rollouts are trained on.

What is not trained on stays in TRL's batch with a mask of zeros, so that its token mean does not
count it. Whatever was sampled is stored, and counted in the budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, groupby, islice
from typing import Any

import numpy as np
import torch
from trl import GRPOTrainer

from mentor_kit.core.records import Record
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.rewards import Score
from mentor_kit.rewards.advantages import turn_advantages
from mentor_kit.rewards.context import RewardContext
from mentor_kit.rewards.terms import clean_calls, same_tools, turn_credits
from mentor_kit.students.student import Student
from mentor_kit.training.checkpoints import tiled_order
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.grpo_trainer import KitRollouts
from mentor_kit.training.reward_function import TEACHER, RewardFunction

REPLACED = 3  # rounds of other problems for flat groups, at most; those left then are left out
FLAT = 1e-9  # rewards that differ by less are equal


@dataclass
class Member:
    """A row of a group, and how it was scored.

    Args:
        record: index of the training record that it answers.
        written: 1 where an id is trained on.
        turns_before: turns of the teacher that it goes on from.
        by_teacher: it is the teacher's trajectory.
    """

    record: int
    prompt: list[int]
    completion: list[int]
    written: list[int]
    logprobs: list[float]
    trajectory: Trajectory
    scored: tuple[Record, Score]
    turns_before: int = 0
    by_teacher: bool = False

    @property
    def reward(self) -> float:
        return self.scored[1].total


class GroupRollouts(KitRollouts):
    """`KitRollouts` of one process, group by group.

    Args:
        reward_function: scores the rollouts, and logs what is found of them.
    """

    def __init__(self, student: Student, records: Sequence[Record], order: Sequence[int],
                 config: TrainConfig, reward_function: RewardFunction) -> None:
        super().__init__(student, records, order, config)
        self.reward_function = reward_function

    def __call__(self, prompts: list[Any], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        config, facts = self.config, {}
        asked = self.asked(prompts, range(len(prompts)), trainer)[::config.group_size]
        groups, left_out = self._groups(asked, 0, trainer), []
        if config.drop_flat_groups != "no":
            facts["flat_groups"] = sum(map(is_flat, groups)) / len(groups)
        if config.drop_flat_groups == "replace":
            groups, left_out = self._replace_flat(groups, trainer)
        members = [member for group in groups for member in group]
        traces = [m for m in members if m.by_teacher]
        facts[TEACHER] = float(sum(sum(m.written) for m in traces))
        trainer.of_rows = self._of_rows(groups)
        self._leave_out(groups, facts)
        self.reward_function.facts = facts
        self.reward_function.left_out = [m.scored[0] for m in left_out if not m.by_teacher]
        return {"prompt_ids": [m.prompt for m in members],
                "completion_ids": [m.completion for m in members],
                "logprobs": [m.logprobs for m in members],
                "env_mask": [m.written for m in members],
                "record": [m.record for m in members],
                "trajectory": [m.trajectory for m in members],
                "scored": [m.scored for m in members],
                "by_teacher": [m.by_teacher for m in members]}

    def _groups(self, asked: Sequence[int], first: int, trainer: GRPOTrainer
                ) -> list[list[Member]]:
        """Groups for these records. Their rollouts are numbered from `first` on in the step."""
        config = self.config
        own, step = config.group_size - config.teacher_traces, trainer.state.global_step + 1
        numbers = [first + place * config.group_size + n for place in range(len(asked))
                   for n in range(own)]
        begun = [self._first_turns(i, step, first + place) for place, i in enumerate(asked)]
        rows = iter(self.sample([i for i in asked for _ in range(own)], numbers, trainer,
                                [turns for turns in begun for _ in range(own)]))
        producer, groups = f"student:{self.student.name}", []
        for i, turns in zip(asked, begun, strict=True):
            group = []
            for row in islice(rows, own):
                trajectory = row.trajectory(producer, **({"replayed": len(turns)} if turns else {}),
                                            **self.student.format.facts(row.completion))
                scored = self.reward_function.score(
                    trajectory, len(row.completion) - (row.written.index(1) if turns else 0),
                    self.records[i], step)
                group.append(Member(i, row.prompt, row.completion, row.written, row.logprobs,
                                    trajectory, scored, len(turns)))
            groups.append(group + [self._trace(i, step)] * config.teacher_traces)
        return groups

    def _first_turns(self, record: int, step: int, place: int) -> Sequence[Turn]:
        """The teacher's turns that a group goes on from; never its last."""
        turns = self.records[record].trajectory.turns
        rng = np.random.default_rng([self.config.seed, step, place, 0x5EF1])
        if len(turns) < 2 or rng.random() >= self.config.replayed_groups:
            return ()
        return turns[:rng.integers(1, len(turns))]

    def _trace(self, record: int, step: int) -> Member:
        """The teacher's trajectory as a row."""
        problem, trajectory = self.records[record].problem, self.records[record].trajectory
        row = self.student.encode(problem.question, trajectory)
        prompt = self.student.prompt_ids(problem.question)
        ids, written = (row[name][len(prompt):] for name in ("input_ids", "assistant_masks"))
        scored = self.reward_function.score(trajectory, len(ids), self.records[record], step)
        return Member(record, prompt, ids, written, [0.0] * len(ids), trajectory, scored,
                      by_teacher=True)

    def _replace_flat(self, groups: list[list[Member]], trainer: GRPOTrainer
                      ) -> tuple[list[list[Member]], list[Member]]:
        """Groups of other problems in place of flat ones, and the rollouts that this drops."""
        config, left_out = self.config, []
        others = iter(tiled_order(len(self.records), REPLACED * config.prompts_per_step,
                                  config.seed, trainer.state.global_step + 1))
        for round_number in range(1, REPLACED + 1):
            flat = [n for n, group in enumerate(groups) if is_flat(group)]
            first = round_number * config.rollouts
            found = self._groups(list(islice(others, len(flat))), first, trainer)
            for n, group in zip(flat, found, strict=True):
                left_out += groups[n]
                groups[n] = group
        return groups, left_out

    def _of_rows(self, groups: Sequence[Sequence[Member]]) -> dict[str, torch.Tensor]:
        """What the update needs to know of each row."""
        config, members = self.config, [member for group in groups for member in group]
        found: dict[str, torch.Tensor] = {}
        if config.teacher_traces:
            found["by_teacher"] = torch.tensor([m.by_teacher for m in members])
        if config.advantage == "turn":
            width = max(len(m.completion) for m in members)
            found["turn_advantages"] = torch.zeros(len(members), width)
            rows = iter(found["turn_advantages"])
            for group in groups:
                of_turns = turn_advantages([self._credits(m) for m in group],
                                           discount=config.turn_discount,
                                           scale=config.scale_rewards != "none")
                for member, advantages, row in zip(group, of_turns, rows, strict=False):
                    for place, turn in enumerate(turns_of(member)):
                        if turn is not None:
                            row[place] = advantages[turn]
        return found

    def _credits(self, member: Member) -> list[float]:
        record = self.records[member.record]
        return turn_credits(RewardContext(record.problem, record.trajectory, member.trajectory,
                                          executed_only=True))

    def _leave_out(self, groups: Sequence[Sequence[Member]], facts: dict[str, float]) -> None:
        """Take what is not trained on out of the masks."""
        config, members = self.config, [member for group in groups for member in group]
        if config.drop_flat_groups != "no":
            for member in (m for group in groups if is_flat(group) for m in group):
                member.written = [0] * len(member.written)
        if config.method == "rft":
            kept = [self._is_kept(m) for m in members]
            facts["kept_rollouts"] = sum(kept) / len(kept)
            for member, is_kept in zip(members, kept, strict=True):
                member.written = member.written if is_kept else [0] * len(member.written)

    def _is_kept(self, member: Member) -> bool:
        """Whether `rft` trains on a rollout: right and ended, and with `kept="right_tools"` with
        the teacher's set of tools and no malformed or unknown call."""
        trajectory, record = member.scored[0].trajectory, self.records[member.record]
        if not trajectory.meta["correct"] or trajectory.finish != "eos":
            return False
        context = RewardContext(record.problem, record.trajectory, trajectory)
        return self.config.kept == "right" or bool(same_tools(context) and clean_calls(context))


def is_flat(group: Sequence[Member]) -> bool:
    rewards = [m.reward for m in group]
    return max(rewards) - min(rewards) < FLAT


def turns_of(member: Member) -> Iterator[int | None]:
    """The number of the turn that each id is written in; None where it was not written."""
    numbers = count(member.turns_before)
    for written, ids in groupby(member.written):
        number = next(numbers) if written else None
        yield from (number for _ in ids)
