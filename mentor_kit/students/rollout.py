"""Multi-turn rollouts for evaluation and validation: generate a turn, execute its calls, go on.

The same rules as TRL's tool loop in training: token ids are joined and never re-encoded; a turn whose
calls cannot all be parsed ends the rollout; at most `max_turns` assistant turns, and calls of the last one are
not executed; the completion (all turns and tool results) has one token budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, LogitsProcessorList

from mentor_kit.problem import Problem
from mentor_kit.students.decoding import CachedDecoder, can_keep_cache, sampling_processors
from mentor_kit.trajectory import EOS, Finish, Trajectory, Turn, render_environment

if TYPE_CHECKING:
    from mentor_kit.students.student import Student


@dataclass(frozen=True)
class Sampling:
    """How each turn is sampled. Temperature 0 is greedy (top-k and top-p are then unused).

    The released evaluation uses 0.6, top-p 0.95, top-k 20; it ignored per-turn settings, ours are applied
    each turn and stored with the result.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    max_turns: int = 5
    max_new_tokens: int = 256
    mask_unknown_tools: bool = False
    seed: int = 0

    def generation_config(self, student: Student, budget: int) -> GenerationConfig:
        tokenizer = student.tokenizer
        sampled = {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        return GenerationConfig(max_new_tokens=budget, eos_token_id=tokenizer.eos_token_id,
                                pad_token_id=tokenizer.pad_token_id,
                                **(sampled if self.temperature > 0 else {"do_sample": False}))


@dataclass
class _Row:
    """One rollout under way."""

    problem: Problem
    prompt: list[int]
    completion: list[int]
    turns: list[Turn]
    done: bool = False


def rollout(student: Student, problems: Sequence[Problem], sampling: Sampling, *, batch_size: int = 128,
            progress: Callable[[int], None] | None = None) -> list[Trajectory]:
    """One trajectory per problem, in order.

    Args:
        batch_size: rollouts generated at once.
        progress: called with the number of rollouts finished since the last call.
    """
    trajectories: list[Trajectory] = []
    was_training = student.model.training
    student.model.eval()
    torch.manual_seed(sampling.seed)
    for start in range(0, len(problems), batch_size):
        batch = problems[start:start + batch_size]
        trajectories += _rollout_batch(student, batch, sampling)
        if progress:
            progress(len(batch))
    student.model.train(was_training)
    return trajectories


def prompt_ids(student: Student, problem: Problem) -> list[int]:
    """The prompt of training, or the problem's own messages and tools where it brings them (BFCL's items do)."""
    messages = problem.meta.get("prompt_messages")
    if messages is None:
        return student.prompt_ids(problem.question)
    return student.tokenizer.apply_chat_template(
        messages, tools=problem.meta["tool_schemas"], add_generation_prompt=True, tokenize=True, return_dict=False)


def _rollout_batch(student: Student, problems: Sequence[Problem], sampling: Sampling) -> list[Trajectory]:
    rows = [_Row(p, prompt_ids(student, p), [], []) for p in problems]
    write = _writer(student, rows, sampling)
    for turn in range(sampling.max_turns):
        active = [r for r in rows if not r.done]
        if not active:
            break
        for row, ids in zip(active, write(active), strict=True):
            _advance(student, row, ids, sampling, last=turn == sampling.max_turns - 1)
    facts = {"sampling": asdict(sampling)}
    return [Trajectory(r.problem.id, tuple(r.turns), f"student:{student.name}",
                       meta={**facts, "tokens": len(r.completion)}) for r in rows]


def _writer(student: Student, rows: Sequence[_Row], sampling: Sampling) -> Callable[[Sequence[_Row]], list[list[int]]]:
    """What writes the next turn of some rows: with a cache kept between turns where the model allows it."""
    processors = LogitsProcessorList()
    if sampling.mask_unknown_tools:
        from mentor_kit.students.masking import KnownToolNames

        processors.append(KnownToolNames(student.tokenizer, student.toolbox.names))
    if not can_keep_cache(student.model):
        return lambda active: _generate(student, active, sampling, processors)
    processors += sampling_processors(sampling.temperature, sampling.top_k, sampling.top_p)
    decoder = CachedDecoder(student.model, student.tokenizer.eos_token_id, student.tokenizer.pad_token_id,
                            [r.prompt for r in rows], processors)
    number = {id(r): i for i, r in enumerate(rows)}

    def write(active: Sequence[_Row]) -> list[list[int]]:
        for row in active:  # what the environment added since the row's last turn
            known = len(decoder.texts[number[id(row)]])
            decoder.add(number[id(row)], (row.prompt + row.completion)[known:])
        budgets = [sampling.max_new_tokens - len(r.completion) for r in active]
        return decoder.write([number[id(r)] for r in active], budgets, sampling.temperature > 0)

    return write


@torch.no_grad()
def _generate(student: Student, rows: Sequence[_Row], sampling: Sampling,
              processors: LogitsProcessorList) -> list[list[int]]:
    """The next turn of each row by the model's own `generate`, up to and including the end token."""
    tokenizer, device = student.tokenizer, student.model.device
    contexts = [r.prompt + r.completion for r in rows]
    budget = max(sampling.max_new_tokens - len(r.completion) for r in rows)
    batch = tokenizer.pad({"input_ids": contexts}, padding_side="left", return_tensors="pt").to(device)
    output = student.model.generate(**batch, generation_config=sampling.generation_config(student, budget),
                                    logits_processor=processors)
    width = batch["input_ids"].shape[1]
    return [_until_eos(ids, tokenizer.eos_token_id, sampling.max_new_tokens - len(row.completion))
            for row, ids in zip(rows, output[:, width:].tolist(), strict=True)]


def _until_eos(ids: list[int], eos: int, budget: int) -> list[int]:
    end = ids.index(eos) + 1 if eos in ids else len(ids)
    return ids[:min(end, budget)]


def _advance(student: Student, row: _Row, ids: list[int], sampling: Sampling, last: bool) -> None:
    """Add a generated turn to a row, execute its calls, and decide whether the rollout goes on."""
    ended = bool(ids) and ids[-1] == student.tokenizer.eos_token_id
    row.completion += ids
    turn = Turn(student.tokenizer.decode(ids[:-1] if ended else ids), "eos" if ended else "length")
    results = [] if last or not ended else execute_turn(student, turn)
    environment = render_environment(results) if results else ""
    suffix = student.tokenizer(environment, add_special_tokens=False)["input_ids"] if results else []
    row.done = not results or len(row.completion) + len(suffix) >= sampling.max_new_tokens
    if not row.done:
        row.completion += suffix
        row.turns.append(Turn(turn.text, "eos", environment))
        return
    row.turns.append(Turn(turn.text, _finish(turn, ended, last, bool(results))))


def _finish(turn: Turn, ended: bool, last: bool, overlong: bool) -> Finish:
    if not ended:
        return "length"
    return "tool_cap" if overlong or (last and turn.calls) else "eos"


def execute_turn(student: Student, turn: Turn) -> list[str]:
    """Results of a turn's calls, in order; empty if there are none or one cannot be parsed (as in TRL)."""
    calls = turn.calls
    if any(c.name is None for c in calls):
        return []
    return [student.toolbox.execute(c.name, c.arguments).content for c in calls]


def decode_completion(tokenizer: Any, ids: Sequence[int], problem_id: str, **kwargs: Any) -> Trajectory:
    """The trajectory of a completion sampled by TRL: its ids decoded, special tokens kept, calls of a last turn at
    the turn limit marked as never executed."""
    text = tokenizer.decode([i for i in ids if i != tokenizer.pad_token_id])
    trajectory = Trajectory.from_text(text, problem_id, eos=EOS, **kwargs)
    last = trajectory.turns[-1]
    if last.finish == "eos" and last.calls and all(c.name is not None for c in last.calls):
        turns = (*trajectory.turns[:-1], Turn(last.text, "tool_cap"))
        return Trajectory(problem_id, turns, **kwargs)
    return trajectory
