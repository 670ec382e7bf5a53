"""A teacher that is a transformers model on this machine, batched.

    teacher: local_model
    teacher_options: ["model:Qwen/Qwen3-4B", "batch_size:32"]

The same rollout as a student's: ChatML with Hermes calls, its own chat template. A tokenizer
without a tool template (e.g. SmolLM2's) needs `template:kit`, our ChatML + Hermes template.
Answers, sampled ones too, are the same in any batch and however often a collection is interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mentor_kit.core.problem import Problem
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.errors import UserError
from mentor_kit.teachers.attempt import Attempt, judged

if TYPE_CHECKING:
    from mentor_kit.students.student import Student

TEMPLATES = ("own", "kit")


@dataclass(frozen=True)
class LocalModelTeacher:
    """Answers batches of problems with one model.

    Args:
        model: a local folder or a hub id; a ChatML model (Qwen2.5, Qwen3, SmolLM2).
        template: `own` chat template of the model, or `kit`: ours.
        backend: `transformers`, `unsloth` or `auto`.
        batch_size: trajectories generated at once.
        temperature, top_p, top_k, seed: sampling of each turn; temperature 0 is greedy.
        max_turns, max_new_tokens: limits of a trajectory; all turns and tool results share the
            tokens.

    Raises:
        UserError: no model, unknown template, impossible values.
    """

    model: str = ""
    template: str = "own"
    backend: str = "auto"
    batch_size: int = 32
    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 20
    seed: int = 0
    max_turns: int = 5
    max_new_tokens: int = 2048

    def __post_init__(self) -> None:
        if not str(self.model).strip():
            raise UserError("The teacher 'local_model' needs a model: write model:<folder or hub "
                            "id>.")
        if self.template not in TEMPLATES:
            raise UserError(f"Teacher option template={self.template!r} is unknown: use one of "
                            f"{TEMPLATES}.")
        for name in ("batch_size", "max_turns", "max_new_tokens"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise UserError(f"Teacher option {name}={getattr(self, name)!r} must be a whole "
                                "number above 0.")

    @property
    def name(self) -> str:
        return str(self.model).rstrip("/").rpartition("/")[2]

    def identity(self) -> dict[str, Any]:
        """What an attempt depends on."""
        return {n: v for n, v in asdict(self).items() if n not in ("backend", "batch_size")}

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from mentor_kit.core.chat_markup import EOS
        from mentor_kit.students.backends import load_model
        from mentor_kit.students.tiny import chat_template

        model, tokenizer = load_model(self.model, self.backend)
        if self.template == "kit":
            tokenizer.chat_template, tokenizer.eos_token = chat_template(), EOS
        return model, tokenizer

    def _student(self, toolbox: str) -> Student:
        from mentor_kit.students.student import Student

        box = load_toolbox(toolbox)
        return Student(*self._loaded, box, self.name)

    def solve_batch(self, tasks: Sequence[tuple[Problem, int]]) -> list[Attempt]:
        """One attempt a task, in order; tasks of several toolboxes are answered box by box."""
        made: dict[int, Attempt] = {}
        for toolbox in dict.fromkeys(p.toolbox for p, _ in tasks):
            places = [i for i, (p, _) in enumerate(tasks) if p.toolbox == toolbox]
            answered = self._rollout(self._student(toolbox), [tasks[i] for i in places])
            made.update(zip(places, answered, strict=True))
        return [made[i] for i in range(len(tasks))]

    def _rollout(self, student: Student, tasks: Sequence[tuple[Problem, int]]) -> list[Attempt]:
        from mentor_kit.students.rollout import Sampling

        sampling = Sampling(self.temperature, self.top_p, self.top_k, self.max_turns,
                            self.max_new_tokens, seed=self.seed)
        found = student.rollout([p for p, _ in tasks], sampling, batch_size=len(tasks),
                                samples=[s for _, s in tasks])
        return [judged(Trajectory(p.id, t.turns, f"teacher:{self.name}", sample,
                                  {"completion_tokens": t.meta["tokens"]}), p)
                for (p, sample), t in zip(tasks, found, strict=True)]
