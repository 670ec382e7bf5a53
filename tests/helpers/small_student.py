"""A small real student for tests. What it writes is certain by construction, on any processor: it
knows its lessons by heart, or the rollouts that it is trained on are scripted.

`STUDENT_NOISE=1e-6` and `STUDENT_NOISE_SEED=3` in the environment change every weight by such a
share, as another processor's rounding might: the tests pass all the same.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from mentor_kit.collection.collect import attempt
from mentor_kit.core.chat_markup import ASSISTANT, EOS
from mentor_kit.core.records import Record
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.problems import load_problems
from mentor_kit.runs.open import init_run
from mentor_kit.runs.run import Run
from mentor_kit.students.student import Student
from mentor_kit.students.tiny import build_model, build_tokenizer
from mentor_kit.teachers import load_teacher

BOX = load_toolbox("arithmetic")
SURE = 0.9  # a token that this likely is chosen greedily whatever the rounding


def teacher_records(n: int, split: str = "train") -> list[Record]:
    """Accepted teacher attempts at short arithmetic stories."""
    teacher = load_teacher("worked_solution")
    problems = load_problems("arithmetic_stories", 0, {split: n})
    return [r for r in (attempt(p, teacher) for p in problems) if r.trajectory.meta["accepted"]]


def untrained(records: Sequence[Record], width: int = 32, layers: int = 1) -> Student:
    texts = [t for r in records for t in (r.problem.question, r.trajectory.to_text())]
    tokenizer = build_tokenizer(texts, 800)
    model = build_model(tokenizer, hidden_size=width, layers=layers, heads=2, kv_heads=1,
                        ffn_size=2 * width)
    return Student(shaken(model), tokenizer, BOX, "test")


def by_heart(lessons: int = 12) -> Student:
    """A student that knows `teacher_records(lessons)` by heart: asked these problems greedily, it
    writes the teacher's trajectories. Each call gives a copy of its own."""
    return clone(_by_heart(lessons))


@cache
def _by_heart(lessons: int) -> Student:
    records = teacher_records(lessons)
    student = untrained(records, width=64, layers=2)
    learn_by_heart(student, [student.encode(r.problem.question, r.trajectory) for r in records])
    shaken(student.model)
    return student


def learn_by_heart(student: Student, rows: Sequence[dict[str, list[int]]],
                   most: int = 1000) -> None:
    """Train until every token that the assistant writes in these rows (see `Student.encode`) has
    `SURE` probability."""
    from mentor_kit.training.optimizers import MuonWithAdamW

    width = max(len(row["input_ids"]) for row in rows)
    ids, written = (torch.tensor([row[name] + [0] * (width - len(row[name])) for row in rows])
                    for name in ("input_ids", "assistant_masks"))
    wanted = ids[:, 1:][written[:, 1:].bool()]
    optimizer = MuonWithAdamW(student.model.train(), 0.02, 0.003)
    for _ in range(most):
        scores = student.model(ids).logits[:, :-1][written[:, 1:].bool()]
        losses = torch.nn.functional.cross_entropy(scores, wanted, reduction="none")
        if losses.max().neg().exp() > SURE:
            break
        optimizer.zero_grad()
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(student.model.parameters(), 1.0)
        optimizer.step()
    else:
        raise AssertionError(f"the lessons are not known by heart after {most} steps")
    student.model.zero_grad()
    student.model.eval()


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """The model, its weights changed by the share that STUDENT_NOISE asks for."""
    if noise := float(os.environ.get("STUDENT_NOISE", "0")):
        chance = torch.Generator().manual_seed(int(os.environ.get("STUDENT_NOISE_SEED", "0")))
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1 + noise * torch.randn(weight.shape, generator=chance))
    return model


def steady_seed(module: Any, sample: Callable[[int], Any], margin: float = 1e-4) -> int:
    """A seed whose draws all fall well inside a token's share of the probabilities. Other kernels,
    as for one row in place of several, change scores by about 1e-5; only a draw that is so near to
    a border hangs on that.

    Args:
        module: its `next_tokens` draws.
        sample: samples with a seed; where it returns False, the seed is not taken.
        margin: how far a draw is from every border at least, as a difference of logits.
    """
    usual, margins = module.next_tokens, []

    def watched(scores: torch.Tensor, random: Sequence[Any]) -> list[int]:
        borders = scores.double().softmax(-1).cumsum(-1).clamp(max=1).logit()
        draws = torch.tensor([[copy.deepcopy(r).random()] for r in random], dtype=torch.float64)
        margins.append((borders - draws.logit()).abs().min())
        return usual(scores, random)

    module.next_tokens = watched
    try:
        for seed in range(99):
            margins.clear()
            if sample(seed) is not False and min(margins) > margin:
                return seed
    finally:
        module.next_tokens = usual
    raise AssertionError("every seed has a draw that is near to a border")


def scripted(records: Sequence[Record], script: Callable[[Record, int, int], list[str]]) -> type:
    """A `KitRollouts` whose tokens are scripted; the engine, its tools, the trainer, rewards and
    loss are the real ones.

    Args:
        records: whose problems are asked.
        script: (record, number in its group, optimizer steps done) -> the rollout's turns. One that
            calls tools is followed by their results and the next.
    """
    from mentor_kit.students import rollout
    from mentor_kit.training import grpo_trainer

    class Scripted(grpo_trainer.KitRollouts):
        def __call__(self, prompts: list[Any], trainer: Any) -> dict[str, list[Any]]:
            tokenizer, ids = self.student.tokenizer, {}

            def choose(
                student: Student, rows: Sequence[Any], scores: torch.Tensor, sampling: Any
            ) -> list[int]:
                for row in (r for r in rows if r.sample not in ids):
                    record = next(r for r in records if r.problem.id == row.problem.id)
                    turns = script(record, row.sample % self.config.group_size,
                                   trainer.state.global_step)
                    ids[row.sample] = tokenizer(
                        "".join(t + EOS for t in turns), add_special_tokens=False
                    )["input_ids"]
                return [ids[row.sample][sum(row.written)] for row in rows]

            usual, rollout._choose = rollout._choose, choose
            try:
                return super().__call__(prompts, trainer)
            finally:
                rollout._choose = usual

    return Scripted


def scripted_trl(records: Sequence[Record],
                 script: Callable[[Record, int, int], list[str]]) -> type:
    """A GRPOTrainer whose rollouts by TRL's tool loop are scripted; see `scripted`."""
    from mentor_kit.training import grpo

    class Scripted(grpo.GRPOTrainer):
        def _generate_single_turn(self, prompt_ids: list[list[int]], images: Any, fields: Any,
                                  num_generations: int,
                                  has_tool_images: bool = False) -> tuple[list[list[int]], None]:
            prompts = self.processing_class.batch_decode(prompt_ids)
            if prompts[0].count(ASSISTANT) == 1:
                asked = [next(r for r in records if r.problem.question in p) for p in prompts]
                self.under_way = [iter(script(record, i % num_generations, self.state.global_step))
                                  for i, record in enumerate(asked)]
            turns = [next(rollout) for rollout, _ in zip(self.under_way, prompts, strict=True)]
            self.under_way = [r for r, turn in zip(self.under_way, turns, strict=True)
                              if "<tool_call>" in turn]
            return [self.processing_class(t + EOS, add_special_tokens=False)["input_ids"]
                    for t in turns], None

    return Scripted


def varied(record: Record, number: int, step: int = 0) -> list[str]:
    """Four different rollouts of a group: the teacher's, one that guesses wrong after a good call,
    one that invents a tool, one that calls none."""
    turns = [turn.text for turn in record.trajectory.turns]
    wrong = "The answer is \\boxed{-77}."
    invented = turns[0].replace('"name": "', '"name": "my_')
    return [turns, [turns[0], wrong], [invented, turns[-1]], [wrong]][number % 4]


def grpo_trainer_of(student: Student, folder: Path, records: Sequence[Record],
                    **options: Any) -> Any:
    """The kit's GRPO trainer on the first of `records`; with TRL's own update unless
    `shared_prompts`."""
    from mentor_kit.rewards import load_reward
    from mentor_kit.training.callback import RunCallback
    from mentor_kit.training.config import TrainConfig
    from mentor_kit.training.grpo import grpo_trainer
    from mentor_kit.training.reward_function import RewardFunction

    config = TrainConfig(**{"steps": 1, "prompts_per_step": 3, "group_size": 4, "micro_batch": 12,
                            "max_new_tokens": 96,
                            "validate_every": 0, "shared_prompts": False, **options})
    run = new_run(folder)
    reward_function = RewardFunction(student.format, records, load_reward("mentor"), run,
                           f"student:{student.name}")
    order, callback = range(config.prompts_per_step), RunCallback(run, student, [], config)
    trainer = grpo_trainer(student, order, reward_function, config, run, callback)
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer


def new_run(folder: Path, stage: str = "train") -> Run:
    return init_run(folder, stage=stage, params={})


def clone(student: Student) -> Student:
    """A copy with weights of its own. `copy.deepcopy` is none after training: the trainer leaves a
    bound `forward` on the model, which would go on computing with the original's weights."""
    model = type(student.model)(copy.deepcopy(student.model.config))
    model.load_state_dict(student.model.state_dict())
    return Student(model, student.tokenizer, student.toolbox, student.name)
