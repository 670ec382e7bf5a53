"""TRL's GRPOTrainer with two parts of its own: rollouts by the kit's engine, and an update that
reads each prompt once.

Both stand in the doors that are least likely to move with the next TRL. Rollouts come by
`rollout_func`, which TRL documents; a missing key is an error there and not a silent change. The
update overrides `training_step` and `_prepare_inputs`, which transformers' Trainer offers to
subclasses, and takes from TRL only the dict of tensors that a micro-batch is.
`tests/training/test_policy_loss.py` compares every loss with TRL's own, so a change of it is seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from trl import GRPOTrainer

from mentor_kit.core.records import Record
from mentor_kit.core.turn import Turn
from mentor_kit.students.rollout import Rollout, run_rollouts
from mentor_kit.students.sampling import Sampling, step_seed
from mentor_kit.students.student import Student, prompt_messages
from mentor_kit.training import processes
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.policy_loss import clipped, kl_term, policy_term, token_weights
from mentor_kit.training.shared_prefix import Rows, Tokens, average_gradients, micro_batches


class KitRollouts:
    """TRL's `rollout_func`: samples a step's rollouts by the engine of validation and evaluation.

    A rollout depends on its problem, its number in the step, the step and the seed: not on its
    neighbours, on how many processes share the step, or on torch's random state.

    Args:
        order: indices into `records`, the prompts of all steps one after another.
    """

    def __init__(self, student: Student, records: Sequence[Record], order: Sequence[int],
                 config: TrainConfig) -> None:
        self.student, self.records, self.order, self.config = student, records, order, config

    def __call__(self, prompts: list[Any], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        """Ids, log-probabilities, what the student wrote, and the trajectory, of each rollout of
        this process's share of the step."""
        first = processes.rank() * len(prompts)
        numbers = range(first, first + len(prompts))
        rows = self.sample(self.asked(prompts, numbers, trainer), numbers, trainer)
        return {"prompt_ids": [r.prompt for r in rows],
                "completion_ids": [r.completion for r in rows],
                "logprobs": [r.logprobs for r in rows], "env_mask": [r.written for r in rows],
                "trajectory": [r.trajectory(f"student:{self.student.name}",
                                           **self.student.format.facts(r.completion))
                               for r in rows]}

    def asked(self, prompts: list[Any], numbers: Sequence[int], trainer: GRPOTrainer) -> list[int]:
        """The record of each of the step's rollouts that have these numbers."""
        config = self.config
        start = trainer.state.global_step // config.steps_per_batch * config.prompts_per_step
        asked = [self.order[start + number // config.group_size] for number in numbers]
        if prompts != [prompt_messages(self.records[i].problem.question) for i in asked]:
            raise RuntimeError("TRL asks for other prompts than the order of this training says.")
        return asked

    def sample(self, asked: Sequence[int], numbers: Sequence[int], trainer: GRPOTrainer,
               begun: Sequence[Sequence[Turn]] | None = None) -> list[Rollout]:
        """Rollouts of these records' problems, in order; see `run_rollouts`."""
        config = self.config
        sampling = Sampling(config.temperature, config.top_p, config.top_k, config.max_turns,
                            config.max_new_tokens,
                            seed=step_seed(config.seed, trainer.state.global_step + 1))
        with trainer.accelerator.autocast():  # the precision of the update
            found = list(run_rollouts(self.student, [self.records[i].problem for i in asked],
                                      sampling, samples=numbers, logprobs=True, begun=begun))
        return sorted(found, key=lambda row: row.number)


class SharedPromptTrainer(GRPOTrainer):
    """GRPOTrainer whose update reads each prompt once for its group.

    TRL's batch is a whole update here; it is split into micro-batches of `micro_batch` rollouts
    within it, of like length. Groups stay together where a rollout batch makes several updates, as
    in the released scripts.
    """

    micro_batch = 32
    # what the rollouts of a batch bring of each row, besides what TRL knows of: (rows, ...)
    of_rows: Mapping[str, torch.Tensor] = {}

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None
                      ) -> torch.Tensor:
        """One update: forward and backward, micro-batch by micro-batch. Returns the loss."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        loss = self._update(inputs)
        average_gradients(self.model)
        self._step += 1
        return loss

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """TRL's, which samples a rollout batch and splits it at random into updates; ours are of
        whole groups."""
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._buffered_inputs is before or len(self._buffered_inputs) == 1:
            return inputs
        self._buffered_inputs = whole_groups(self._buffered_inputs)
        return self._buffered_inputs[self._step % len(self._buffered_inputs)]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's, with `of_rows`; `turn_advantages`, (rows, tokens), are added to the rollouts'."""
        output = super()._generate_and_score_completions(inputs)
        brought = {name: value.to(output["advantages"].device)
                   for name, value in self.of_rows.items()}
        if "turn_advantages" in brought:
            of_turns = brought.pop("turn_advantages")
            output["advantages"] = output["advantages"][:, None] + of_turns
        return output | brought

    def _terms(self, inputs: dict[str, Any], tokens: Tokens, old: torch.Tensor,
               advantages: torch.Tensor) -> torch.Tensor:
        """What is minimised for each token, before its weight."""
        return policy_term(self.args, tokens.logprobs, old, advantages)

    def _update(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Add an update's gradients to the model's; its loss."""
        args, mask = self.args, written_mask(inputs)
        updates = processes.count() * args.steps_per_generation
        weights = token_weights(args, mask, float(inputs["num_items_in_batch"]) / updates)
        loss, sums = torch.zeros((), device=mask.device), self._no_sums()
        for tokens in self._micro_batches(self.model, inputs, mask,
                                          entropy_gradient=args.entropy_coef != 0):
            place, logprobs = (tokens.row, tokens.place), tokens.logprobs
            advantages = inputs["advantages"]
            advantages = advantages[place if advantages.ndim == 2 else tokens.row]
            old = inputs.get("old_per_token_logps")
            old = logprobs.detach() if old is None else old[place]
            terms = self._terms(inputs, tokens, old, advantages)
            seen = {"entropy": tokens.entropies, **clipped(args, logprobs, old, advantages)}
            if self.beta:
                seen["kl"] = kl_term(logprobs, inputs["ref_per_token_logps"][place])
                terms = terms + self.beta * seen["kl"]
            part = (terms * weights[place]).sum()
            if args.entropy_coef:
                part = part - args.entropy_coef * tokens.entropies.sum() / mask.sum()
            self.accelerator.backward(part)
            loss = loss + part.detach()
            sums = {name: total + seen[name].detach().sum() for name, total in sums.items()}
        self._log_means(sums, mask.sum())
        return loss

    def _micro_batches(self, model: Any, inputs: dict[str, Any], scored: torch.Tensor,
                       **options: Any) -> Iterator[Tokens]:
        return micro_batches(model, rows_of(inputs, scored), self.micro_batch, **options,
                             temperature=self.temperature,
                             autocast=self.accelerator.autocast)

    def _no_sums(self) -> dict[str, torch.Tensor]:
        """Zeros under the names of what is summed over tokens: in all processes the same."""
        nothing = torch.zeros(0)
        names = ["entropy", *clipped(self.args, nothing, nothing, nothing)]
        return {name: torch.zeros(()) for name in [*names, *(["kl"] if self.beta else [])]}

    def _log_means(self, sums: dict[str, torch.Tensor], count: torch.Tensor) -> None:
        """Means over the tokens of all processes, under TRL's names."""
        stacked = torch.stack([total.to(count.device) for total in (count, *sums.values())])
        totals = self.accelerator.reduce(stacked, reduction="sum")
        for name, mean in zip(sums, (totals[1:] / totals[0].clamp(min=1)).tolist(), strict=True):
            self._metrics["train"][name].append(mean)

    @torch.no_grad()
    def _get_per_token_logps_and_entropies(
            self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor,
            logits_to_keep: int, **_: Any) -> tuple[torch.Tensor, None, None]:
        """Log-probabilities under the policy that sampled, or the reference, (rows, tokens): TRL
        asks for them."""
        parts = {"prompt": slice(None, -logits_to_keep), "completion": slice(-logits_to_keep, None)}
        inputs = {f"{name}_ids": input_ids[:, part] for name, part in parts.items()}
        inputs |= {f"{name}_mask": attention_mask[:, part] for name, part in parts.items()}
        logprobs = torch.zeros(inputs["completion_ids"].shape, device=input_ids.device)
        model = self.accelerator.unwrap_model(model)
        for tokens in self._micro_batches(model, inputs, inputs["completion_mask"]):
            logprobs[tokens.row, tokens.place] = tokens.logprobs
        return logprobs, None, None


def written_mask(inputs: dict[str, Any]) -> torch.Tensor:
    """What the student wrote, (rows, tokens): neither tool results nor padding."""
    mask = inputs["completion_mask"]
    return mask * inputs["tool_mask"] if "tool_mask" in inputs else mask


def _prompts(inputs: dict[str, Any]) -> tuple[list[tuple[int, ...]], list[int]]:
    """The distinct prompts of a batch, in order of appearance, and each row's."""
    distinct: dict[tuple[int, ...], int] = {}
    numbers = [distinct.setdefault(tuple(ids[mask.bool()].tolist()), len(distinct))
               for ids, mask in zip(inputs["prompt_ids"], inputs["prompt_mask"], strict=True)]
    return list(distinct), numbers


def rows_of(inputs: dict[str, Any], scored: torch.Tensor) -> Rows:
    """A batch of TRL's as rows that share prompts; a prompt's last token predicts, so it is each
    row's own."""
    prompts, numbers = _prompts(inputs)
    completions = [ids[mask.bool()].tolist() for ids, mask in
                   zip(inputs["completion_ids"], inputs["completion_mask"], strict=True)]
    suffixes = [[prompts[n][-1], *ids] for n, ids in zip(numbers, completions, strict=True)]
    return Rows([list(p[:-1]) for p in prompts], torch.tensor(numbers), suffixes, scored.bool())


def whole_groups(updates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rollouts of several updates, dealt out again prompt by prompt, in the random order in
    which prompts appear."""
    joined = {name: torch.cat([u[name] for u in updates]) if value.ndim else value
              for name, value in updates[0].items()}
    order = torch.tensor(_prompts(joined)[1]).argsort(stable=True).to(joined["prompt_ids"].device)
    return [{name: value[part] if value.ndim else value for name, value in joined.items()}
            for part in order.chunk(len(updates))]
