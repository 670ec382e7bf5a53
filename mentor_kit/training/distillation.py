"""On-policy distillation with tools: the student samples, a white-box teacher grades every token.

    loss = mean over written tokens of weight x D(student || teacher)

D is over the whole vocabulary, at the states that the student's own rollouts reach (GKD, arXiv
2306.13649): 1 is the reverse KL, 0 the forward KL, between them the generalised Jensen-Shannon
divergence, as in TRL's `DistillationTrainer`, to whose loss the tests compare this one. The weight
is 1, or that of a step (see `step_weights`). Tool results carry no loss.

TRL's trainer serves too, with a tool loop of its own. This one samples by the kit's engine and
reads each prompt once, for the teacher as for the student; it stores and logs what all methods do,
and a rollout is the one that MENTOR would have sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

from mentor_kit.core.problem import Problem
from mentor_kit.core.toolbox import Toolbox
from mentor_kit.errors import UserError
from mentor_kit.students.kv_decoder import plain_model
from mentor_kit.students.rollout import Rollout, run_rollouts
from mentor_kit.students.sampling import Sampling, step_seed
from mentor_kit.students.student import Student, load_student
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.grpo_trainer import SharedPromptTrainer, rows_of, written_mask
from mentor_kit.training.policy_loss import token_weights
from mentor_kit.training.reward_function import FORWARDS
from mentor_kit.training.shared_prefix import MAX_SCORES, Rows, can_share, hidden_states

HELD_OUT = 64  # rollouts of `held_out`
MOST_WEIGHT = 1.2  # of a turn, where it counts more than the first (SOD: 1 + delta)


class Divergences(NamedTuple):
    """Of scored tokens, one after another.

    Args:
        row, place: where each stands.
        divergence, entropy: in nats; the student's entropy carries no gradient.
        gap: |log p - log q| of the token that was written; no gradient.
    """

    row: torch.Tensor
    place: torch.Tensor
    divergence: torch.Tensor
    entropy: torch.Tensor
    gap: torch.Tensor


class WhiteBoxTeacher:
    """A model whose log-probabilities can be read.

    Args:
        source: a student's folder or a hub id.
        toolbox: of the student; the teacher reads the student's prompts, token by token.
        template: see `load_student`; only read.

    Raises:
        UserError: it cannot be loaded.
    """

    def __init__(self, source: str | Path, toolbox: Toolbox, template: str = "own") -> None:
        self.source = str(source)
        loaded = load_student(source, toolbox, template=template)
        self.model, self.tokenizer = loaded.model.eval().requires_grad_(False), loaded.tokenizer

    def check(self, student: Student) -> None:
        """Raises UserError where this teacher cannot grade this student's tokens."""
        sizes = [m.get_output_embeddings().weight.shape[0] for m in (self.model, student.model)]
        if self.tokenizer.get_vocab() != student.tokenizer.get_vocab() or sizes[0] != sizes[1]:
            raise UserError(f"distill_from={self.source!r} has another vocabulary than the student "
                            f"({sizes[0]} and {sizes[1]} tokens): on-policy distillation compares "
                            "the probabilities of all tokens, so take a teacher of the same "
                            "family, or one trained on the same vocabulary.")
        if not can_share(self.model):
            raise UserError(f"distill_from={self.source!r} is not a plain model that the kit's "
                            "engine can read: see mentor_kit.students.kv_decoder.ARCHITECTURES.")

    def held_out(self, student: Student, problems: Sequence[Problem], config: TrainConfig
                 ) -> dict[str, float]:
        """The mean reverse KL of a written token, on rollouts of problems that are not trained on:
        at every validation the same problems and random numbers."""
        problems = [p for p in problems for _ in range(max(1, HELD_OUT // len(problems)))]
        sampling = Sampling(1.0, max_turns=config.max_turns, max_new_tokens=config.max_new_tokens,
                            seed=step_seed(config.seed, 0))
        rows = rollout_rows(sorted(run_rollouts(student, problems[:HELD_OUT], sampling),
                                   key=lambda r: r.number))
        with torch.no_grad():
            found = [d.divergence for d in divergences(student.model, self.model, rows,
                                                       config.micro_batch)]
        return {"teacher_kl": float(torch.cat(found).mean())}


class DistillationTrainer(SharedPromptTrainer):
    """GRPO's rollouts, updated by the divergence from `teacher`. Rewards are logged only."""

    teacher: WhiteBoxTeacher
    divergence, turn_weight = 1.0, 0.0

    def _update(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Add an update's gradients to the model's; its loss."""
        mask = written_mask(inputs)
        tokens_of_update = float(inputs["num_items_in_batch"]) / self.args.steps_per_generation
        weights, turns = token_weights(self.args, mask, tokens_of_update), turn_numbers(mask)
        loss, sums = torch.zeros((), device=mask.device), self._no_sums()
        for found in divergences(self.model, self.teacher.model, rows_of(inputs, mask),
                                 self.micro_batch, beta=self.divergence,
                                 temperature=self.temperature,
                                 autocast=self.accelerator.autocast):
            place = (found.row, found.place)
            weight = weights[place] * step_weights(found.gap, found.row, turns[place],
                                                   self.turn_weight)
            part = (found.divergence * weight).sum()
            self.accelerator.backward(part)
            loss = loss + part.detach()
            sums["entropy"] = sums["entropy"] + found.entropy.sum()
            sums["divergence"] = sums["divergence"] + found.divergence.detach().sum()
        self._log_means(sums, mask.sum())
        self._metrics["train"][FORWARDS] = [float(len(mask))]
        return loss

    def _no_sums(self) -> dict[str, torch.Tensor]:
        return {"entropy": torch.zeros(()), "divergence": torch.zeros(())}


def divergences(student: Any, teacher: Any, rows: Rows, micro_batch: int, *, beta: float = 1.0,
                temperature: float = 1.0, autocast: Callable[[], Any] = nullcontext
                ) -> Iterator[Divergences]:
    """The divergence at each scored token, micro-batch by micro-batch: call `backward` on a loss
    of each as it comes. Both models read the same rows in the same order.

    Args:
        beta: see `token_divergence`.
        temperature: scores of both are divided by it.
        autocast: the precision of the forward passes.
    """
    heads = [plain_model(model).get_output_embeddings() for model in (student, teacher)]

    def compare(ours: torch.Tensor, theirs: torch.Tensor, written: torch.Tensor
                ) -> tuple[torch.Tensor, ...]:
        ours, theirs = ((head(s).float() / temperature).log_softmax(-1)
                        for head, s in zip(heads, (ours, theirs), strict=True))
        plain = ours.detach()
        gap = (plain - theirs).gather(1, written[:, None])[:, 0].abs()
        return token_divergence(ours, theirs, beta), -(plain.exp() * plain).sum(-1), gap

    size = max(1, MAX_SCORES // (4 * student.config.vocab_size))
    passes = [hidden_states(m, rows, micro_batch, autocast=autocast) for m in (student, teacher)]
    for ours, theirs in zip(*passes, strict=True):
        with autocast():
            columns = (t.split(size) for t in (ours.states, theirs.states, ours.targets))
            pieces = [checkpoint(compare, *piece, use_reentrant=False)
                      for piece in zip(*columns, strict=True)]
        yield Divergences(ours.row, ours.place,
                          *(torch.cat(column) for column in zip(*pieces, strict=True)))


def token_divergence(student: torch.Tensor, teacher: torch.Tensor, beta: float) -> torch.Tensor:
    """The divergence of each token's predictions, in nats.

    Args:
        student, teacher: log-probabilities, (tokens, vocabulary).
        beta: 0 is KL(teacher || student), 1 is KL(student || teacher); between them
            beta x KL(teacher || m) + (1 - beta) x KL(student || m), with the mixture
            m = beta x teacher + (1 - beta) x student.
    """
    if beta == 1:
        return (student.exp() * (student - teacher)).sum(-1)
    if beta == 0:
        return (teacher.exp() * (teacher - student)).sum(-1)
    share = torch.tensor(beta, device=student.device)
    mixture = torch.logaddexp(student + (1 - share).log(), teacher + share.log())
    of_teacher = (teacher.exp() * (teacher - mixture)).sum(-1)
    of_student = (student.exp() * (student - mixture)).sum(-1)
    return beta * of_teacher + (1 - beta) * of_student


def step_weights(gap: torch.Tensor, row: torch.Tensor, turn: torch.Tensor, exponent: float
                 ) -> torch.Tensor:
    """How much each token counts, (tokens): (d of the first turn / d of its turn), at most 1.2, to
    the power of `exponent`; d is a turn's mean gap.

    With exponent 1 it is the weight of SOD's released code (arXiv 2605.07725,
    `compute_stepwise_opd_weights`, delta 0.2 as in its script): where a wrong call has led student
    and teacher apart, the teacher grades states that it does not know; a turn that is near the
    teacher again counts in full. The exponent is ours.

    Args:
        gap: |log p - log q| of the written token; row, turn: of each token, (tokens); turns are
            numbered from 0 in each row.
    """
    if not exponent or not len(row):
        return torch.ones_like(gap)
    most = int(turn.max()) + 1
    cell, size = row * most + turn, (int(row.max()) + 1) * most
    sums, counts = (torch.zeros(size, device=row.device).index_add(0, cell, values)
                    for values in (gap, torch.ones_like(gap)))
    means = sums / counts.clamp(min=1) + 1e-6
    return (means[row * most] / means[cell]).clamp(max=MOST_WEIGHT) ** exponent


def turn_numbers(mask: torch.Tensor) -> torch.Tensor:
    """The turn in which each token was written, counted from 0 in its row, (rows, tokens); what
    was not written has the number of the turn before."""
    before = torch.nn.functional.pad(mask[:, :-1], (1, 0))
    return ((mask > before).cumsum(1) - 1).clamp(min=0)


def rollout_rows(rollouts: Sequence[Rollout]) -> Rows:
    """Rollouts as rows of which everything is scored that the student wrote."""
    width = max(len(r.completion) for r in rollouts)
    scored = torch.tensor([r.written + [0] * (width - len(r.written)) for r in rollouts])
    prompts = list(dict.fromkeys(tuple(r.prompt) for r in rollouts))
    return Rows([list(p[:-1]) for p in prompts],
                torch.tensor([prompts.index(tuple(r.prompt)) for r in rollouts]),
                [[r.prompt[-1], *r.completion] for r in rollouts], scored.bool())
