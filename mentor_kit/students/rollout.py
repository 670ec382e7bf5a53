"""Multi-turn rollouts for evaluation and validation: generate a turn, execute its calls, go on.

The same rules as TRL's tool loop in training: token ids are joined and never re-encoded; a turn whose
calls cannot all be parsed ends the rollout; at most `max_turns` assistant turns, and calls of the last one are
not executed; the completion (all turns and tool results) has one token budget. A problem with tools of its own is
answered by its Environment instead, which may also speak for the user (`mentor_kit.core.environment`).
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from os.path import commonprefix
from typing import Any, Protocol

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessorList

from mentor_kit.core.environment import Environment, make_environment
from mentor_kit.core.problem import Problem, sample_indices
from mentor_kit.core.toolbox import Toolbox
from mentor_kit.core.trajectory import EOS, Finish, Trajectory, Turn, render_environment
from mentor_kit.students.constrained import KnownToolNames
from mentor_kit.students.decoding import Decoder, Draw, can_keep_cache, next_tokens, sampling_processors

REFILL = 16  # a share of 1/REFILL of the places is free before new prompts are read: together they are read faster
SEEN = 32  # last tokens that logits processors look at


class Answerer(Protocol):
    """What a rollout needs of a `Student`."""

    model: Any
    tokenizer: Any
    toolbox: Toolbox
    name: str
    tool_schemas: list[dict[str, Any]]

    def prompt_ids(self, question: str) -> list[int]: ...


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
    constrain_tool_names: bool = False
    seed: int = 0


@dataclass
class _Row:
    """One rollout under way: what it has written in its present turn, and all of its completion before."""

    place: int
    problem: Problem
    prompt: list[int]
    sample: int
    completion: list[int] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    environment: Environment | None = None
    random: np.random.Generator | None = None
    done: bool = False


def rollout(student: Answerer, problems: Sequence[Problem], sampling: Sampling, *, batch_size: int = 128,
            samples: Sequence[int] | None = None) -> list[Trajectory]:
    """One trajectory per problem, in order; see `rollouts`."""
    found = dict(rollouts(student, problems, sampling, batch_size=batch_size, samples=samples))
    return [found[place] for place in range(len(problems))]


def rollouts(student: Answerer, problems: Sequence[Problem], sampling: Sampling, *, batch_size: int = 128,
             samples: Sequence[int] | None = None) -> Iterator[tuple[int, Trajectory]]:
    """Yields each problem's place and trajectory as soon as it is finished.

    What is written depends on the problem, its sample index and the settings, not on what else is asked, in which
    order, or how many rollouts are under way.

    Args:
        batch_size: the most rollouts under way; the next problem takes the place of one that is finished.
        samples: each problem's sample index; without it, how often the problem stood before it in the list.
    """
    was_training = student.model.training
    student.model.eval()
    try:
        indices = sample_indices(problems) if samples is None else samples
        rows = [_Row(place, p, prompt_ids(student, p), sample, environment=make_environment(p))
                for place, (p, sample) in enumerate(zip(problems, indices, strict=True))]
        run = _run_cached if can_keep_cache(student.model) else _run_generate
        for row in run(student, rows, sampling, batch_size):
            applied = replace(sampling, max_turns=_max_turns(row, sampling))
            facts = {"sampling": asdict(applied), "tokens": len(row.completion)}
            yield row.place, Trajectory(row.problem.id, tuple(row.turns), f"student:{student.name}", row.sample, facts)
    finally:
        student.model.train(was_training)
        if was_training and hasattr(student.model, "for_training"):
            student.model.for_training()  # Unsloth's generate leaves flags of its own that `train` does not know


def prompt_ids(student: Answerer, problem: Problem) -> list[int]:
    """The prompt of training, or the problem's own messages and tools where it brings them (BFCL's items do)."""
    messages = problem.meta.get("prompt_messages")
    if messages is None:
        return student.prompt_ids(problem.question)
    return student.tokenizer.apply_chat_template(
        messages, tools=problem.meta["tool_schemas"], add_generation_prompt=True, tokenize=True, return_dict=False)


def _run_cached(student: Answerer, rows: Sequence[_Row], sampling: Sampling, slots: int) -> Iterator[_Row]:
    """Finished rows, with a cache kept between turns. A row's number in the decoder is its place in `active`."""
    waiting, active, slots = deque(rows), [], min(slots, len(rows))
    decoder = Decoder(student.model, slots, _shared([r.prompt for r in rows]))
    while waiting or active:
        if len(active) + max(slots // REFILL, 1) <= slots:
            for _ in range(min(slots - len(active), len(waiting))):
                active.append(_open_turn(waiting.popleft(), sampling))
                decoder.admit(active[-1].prompt)
        for numbers, scores in decoder.passes():
            asked = [active[n] for n in numbers]
            for n, row, token in zip(numbers, asked, _choose(student, asked, scores, sampling), strict=True):
                decoder.pending[n] = _write(student, row, token, sampling)
        for n in reversed([n for n, row in enumerate(active) if row.done]):
            yield active[n]
            decoder.release(n)
            active[n] = active[-1]
            active.pop()


def _shared(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The tokens with which all prompts begin; each has at least one more."""
    return list(commonprefix([list(p) for p in prompts]))[:min(map(len, prompts), default=1) - 1]


def _processors(student: Answerer, rows: Sequence[_Row], sampling: Sampling) -> LogitsProcessorList:
    """What changes the scores of these rows' next tokens before they are chosen, given the last tokens."""
    processors = LogitsProcessorList(sampling_processors(sampling.temperature, sampling.top_k, sampling.top_p))
    if sampling.constrain_tool_names:
        processors.insert(0, KnownToolNames(student.tokenizer, [_known_names(student, r) for r in rows]))
    return processors


def _known_names(student: Answerer, row: _Row) -> tuple[str, ...]:
    """The tools on offer to a row now."""
    return tuple(s["function"]["name"] for s in row.environment.schemas) if row.environment else student.toolbox.names


def _open_turn(row: _Row, sampling: Sampling) -> _Row:
    """Give a row that samples the random numbers of its next turn."""
    if sampling.temperature > 0:
        who = zlib.crc32(row.problem.id.encode("utf-8", "replace"))
        row.random = np.random.default_rng(np.random.SeedSequence([sampling.seed, who, row.sample, len(row.turns)]))
    return row


def _choose(student: Answerer, rows: Sequence[_Row], scores: torch.Tensor, sampling: Sampling) -> list[int]:
    """Each row's next token."""
    if processors := _processors(student, rows, sampling):
        last = [(r.prompt[-SEEN:] + r.completion[-SEEN:] + r.written)[-SEEN:] for r in rows]
        pad = student.tokenizer.pad_token_id
        seen = torch.tensor([[pad] * (SEEN - len(ids)) + ids for ids in last], device=scores.device)
        scores = processors(seen, scores)
    return next_tokens(scores, [r.random for r in rows])


def _write(student: Answerer, row: _Row, token: int, sampling: Sampling) -> list[int]:
    """Add a token to a row, and end its turn where that is over. Returns what the row reads next."""
    row.written.append(token)
    left = sampling.max_new_tokens - len(row.completion) - len(row.written)
    if token != student.tokenizer.eos_token_id and left > 0:
        return [token]
    ids, before = row.written, len(row.completion)
    row.written = []
    _advance(student, row, ids, sampling, last=len(row.turns) == _max_turns(row, sampling) - 1)
    _open_turn(row, sampling)
    return row.completion[before + len(ids) - 1:]


def _max_turns(row: _Row, sampling: Sampling) -> int:
    return row.environment.max_turns if row.environment else sampling.max_turns


def _run_generate(student: Answerer, rows: Sequence[_Row], sampling: Sampling, slots: int) -> Iterator[_Row]:
    """Finished rows, turn by turn through the model's own `generate`."""
    for start in range(0, len(rows), slots):
        active = [_open_turn(row, sampling) for row in rows[start:start + slots]]
        while active:
            for row, ids in zip(active, _generate(student, active, sampling), strict=True):
                _advance(student, row, ids, sampling, last=len(row.turns) == _max_turns(row, sampling) - 1)
                _open_turn(row, sampling)
            yield from (row for row in active if row.done)
            active = [row for row in active if not row.done]


@torch.no_grad()
def _generate(student: Answerer, rows: Sequence[_Row], sampling: Sampling) -> list[list[int]]:
    """The next turn of each row, up to and including the end token. What samples is our own last processor, so that
    a row's tokens do not depend on its neighbours."""
    tokenizer, device = student.tokenizer, student.model.device
    contexts = [r.prompt + r.completion for r in rows]
    budget = max(sampling.max_new_tokens - len(r.completion) for r in rows)
    batch = tokenizer.pad({"input_ids": contexts}, padding_side="left", return_tensors="pt").to(device)
    config = GenerationConfig(max_new_tokens=budget, do_sample=False, eos_token_id=tokenizer.eos_token_id,
                              pad_token_id=tokenizer.pad_token_id)
    processors = _processors(student, rows, sampling)
    if sampling.temperature > 0:
        processors.append(Draw([r.random for r in rows]))
    output = student.model.generate(**batch, generation_config=config, logits_processor=processors)
    width = batch["input_ids"].shape[1]
    return [_until_eos(ids, tokenizer.eos_token_id, sampling.max_new_tokens - len(row.completion))
            for row, ids in zip(rows, output[:, width:].tolist(), strict=True)]


def _until_eos(ids: list[int], eos: int, budget: int) -> list[int]:
    end = ids.index(eos) + 1 if eos in ids else len(ids)
    return ids[:min(end, budget)]


def _advance(student: Answerer, row: _Row, ids: list[int], sampling: Sampling, last: bool) -> None:
    """Add a generated turn to a row and what follows it, and decide whether the rollout goes on."""
    ended = bool(ids) and ids[-1] == student.tokenizer.eos_token_id
    row.completion += ids
    turn = Turn(student.tokenizer.decode(ids[:-1] if ended else ids), "eos" if ended else "length")
    environment = "" if last or not ended else _environment(student, row, turn)
    suffix = student.tokenizer(environment, add_special_tokens=False)["input_ids"] if environment else []
    row.done = not environment or len(row.completion) + len(suffix) >= sampling.max_new_tokens
    if not row.done:
        row.completion += suffix
        row.turns.append(Turn(turn.text, "eos", environment))
        return
    stopped = last or row.environment is not None
    row.turns.append(Turn(turn.text, _finish(turn, ended, stopped, bool(environment))))


def _environment(student: Answerer, row: _Row, turn: Turn) -> str:
    """What follows a turn: the results of its calls, or what the user says next; "" ends the rollout."""
    if row.environment is not None:
        response = row.environment.step(turn)
        return response.text if response else ""
    results = execute_turn(student, turn)
    return render_environment(results) if results else ""


def _finish(turn: Turn, ended: bool, stopped: bool, overlong: bool) -> Finish:
    if not ended:
        return "length"
    return "tool_cap" if overlong or (stopped and turn.calls) else "eos"


def execute_turn(student: Answerer, turn: Turn) -> list[str]:
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
