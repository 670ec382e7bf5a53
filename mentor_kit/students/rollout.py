"""Multi-turn rollouts: write a turn, execute its calls, go on. The one engine of evaluation,
validation and training; its rules are those of `mentor_kit.students.turns`.

A problem with tools of its own is answered by its Environment instead, which may also speak for the
user (`mentor_kit.core.environment`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from os.path import commonprefix
from typing import Any, Protocol

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessorList

from mentor_kit.core.chat_markup import render_environment
from mentor_kit.core.environment import Environment, make_environment
from mentor_kit.core.problem import Problem, prompt_messages, sample_indices
from mentor_kit.core.toolbox import Toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.students.constrained import KnownToolNames
from mentor_kit.students.formats import CallFormat
from mentor_kit.students.kv_decoder import KVDecoder, can_keep_cache
from mentor_kit.students.native_format import OURS
from mentor_kit.students.sampling import (
    Draw,
    Sampling,
    check_finite,
    log_probabilities,
    next_tokens,
    sampling_processors,
    turn_generator,
)
from mentor_kit.students.turns import execute_turn, last_turn

# a share of 1/REFILL of the rows is free before new prompts are read: together they are read faster
REFILL = 16
SEEN = 32  # last tokens that logits processors look at


class Answerer(Protocol):
    """What a rollout needs of a `Student`."""

    model: Any
    tokenizer: Any
    toolbox: Toolbox
    name: str
    tool_schemas: list[dict[str, Any]]
    format: CallFormat
    positions: int

    def prompt_ids(self, question: str) -> list[int]: ...


@dataclass
class Rollout:
    """One rollout, under way or done: token ids, and the turns they spell.

    Args:
        number: its place among those that were asked for.
        completion: ids of all turns and tool results.
        written: 1 where the student wrote the id, 0 where it is a tool result's.
        logprobs: of the ids that the student wrote (0.0 elsewhere), where they were asked for.
        begun: where in the completion the present turn begins.
    """

    number: int
    problem: Problem
    prompt: list[int]
    sample: int
    completion: list[int] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    environment: Environment | None = None
    random: np.random.Generator | None = None
    begun: int = 0
    done: bool = False

    def trajectory(self, producer: str, **facts: Any) -> Trajectory:
        return Trajectory(self.problem.id, tuple(self.turns), producer, self.sample, facts)


def rollout(student: Answerer, problems: Sequence[Problem], sampling: Sampling, *,
            batch_size: int = 128, samples: Sequence[int] | None = None) -> list[Trajectory]:
    """One trajectory per problem, in order; see `rollouts`."""
    found = dict(rollouts(student, problems, sampling, batch_size=batch_size, samples=samples))
    return [found[number] for number in range(len(problems))]


def rollouts(student: Answerer, problems: Sequence[Problem], sampling: Sampling, *,
             batch_size: int = 128, samples: Sequence[int] | None = None
             ) -> Iterator[tuple[int, Trajectory]]:
    """Yields each problem's place and trajectory as soon as it is finished.

    What is written depends on the problem, its sample index and the settings, not on what else is
    asked, in which order, or how many rollouts are under way.

    Args:
        batch_size: the most rollouts under way; the next problem takes the place of one that is
            finished.
        samples: each problem's sample index; without it, how often the problem stood before it in
            the list.
    """
    for row in run_rollouts(student, problems, sampling, batch_size=batch_size, samples=samples):
        applied = replace(sampling, max_turns=_max_turns(row, sampling))
        yield row.number, row.trajectory(f"student:{student.name}", sampling=asdict(applied),
                                         tokens=len(row.completion),
                                         **student.format.facts(row.completion))


def run_rollouts(student: Answerer, problems: Sequence[Problem], sampling: Sampling, *,
                 batch_size: int = 128, samples: Sequence[int] | None = None,
                 logprobs: bool = False,
                 begun: Sequence[Sequence[Turn]] | None = None) -> Iterator[Rollout]:
    """`rollouts` with their token ids.

    Args:
        logprobs: keep the log-probabilities of what is written; sampled rollouts of a model whose
            cache can be kept.
        begun: the turns of another that each rollout goes on from, with what followed each of
            them; they count as turns, and as tokens that the student did not write.
    """
    if sampling.constrain_tool_names and student.format.name != "hermes":
        raise UserError("constrain_tool_names=True knows Hermes calls only, and this student "
                        f"writes {student.format.name}: set it to False. {OURS}")
    was_training = student.model.training
    student.model.eval()
    try:
        indices = sample_indices(problems) if samples is None else samples
        prompts: dict[int, list[int]] = {}  # samples of one problem share its prompt
        for problem in problems:
            if id(problem) not in prompts:
                prompts[id(problem)] = prompt_ids(student, problem)
        rows = [Rollout(number, p, prompts[id(p)], sample, environment=make_environment(p))
                for number, (p, sample) in enumerate(zip(problems, indices, strict=True))]
        for row, turns in zip(rows, begun or (), strict=begun is not None):
            _go_on_from(student, row, turns)
        if can_keep_cache(student.model):
            yield from _run_cached(student, rows, sampling, batch_size, logprobs)
        else:
            yield from _run_generate(student, rows, sampling, batch_size)
    finally:
        student.model.train(was_training)
        if was_training and hasattr(student.model, "for_training"):
            # Unsloth's generate leaves flags of its own that `train` does not know
            student.model.for_training()


def _go_on_from(student: Answerer, row: Rollout, turns: Sequence[Turn]) -> None:
    """Begin a rollout after these turns; they use up its budget of tokens, and their calls are made
    in its environment."""
    if row.environment is not None:
        for turn in turns:
            row.environment.step(turn)
    pieces = student.format.pieces(Trajectory("", tuple(turns))) if turns else ()
    row.completion = [i for ids, _ in pieces for i in ids]
    row.written, row.logprobs = [0] * len(row.completion), [0.0] * len(row.completion)
    row.turns, row.begun = list(turns), len(row.completion)


def prompt_ids(student: Answerer, problem: Problem) -> list[int]:
    """The prompt of training, or the problem's own messages and tools where it brings them (BFCL's
    items do)."""
    if "tool_schemas" not in problem.meta:
        return student.prompt_ids(problem.question)
    messages = problem.meta.get("prompt_messages") or prompt_messages(problem.question)
    return student.format.prompt_ids(messages, problem.meta["tool_schemas"])


def _run_cached(student: Answerer, rows: Sequence[Rollout], sampling: Sampling, slots: int,
                logprobs: bool) -> Iterator[Rollout]:
    """Finished rows, with a cache kept between turns. A row's number in the decoder is its place in
    `active`."""
    waiting, active, slots = deque(rows), [], min(slots, len(rows))
    prompts = [r.prompt for r in rows]
    shared = commonprefix([*prompts, *(p[:-1] for p in prompts)])  # each has one token more
    decoder = KVDecoder(student.model, slots, shared)
    while waiting or active:
        if len(active) + max(slots // REFILL, 1) <= slots:
            for _ in range(min(slots - len(active), len(waiting))):
                active.append(_begin_turn(waiting.popleft(), sampling))
                decoder.add_row(active[-1].prompt + active[-1].completion)
        wide = any(len(ids) > 1 for ids in decoder.pending)
        passes = decoder.prefill() if wide else [(range(len(active)), decoder.decode_step())]
        for numbers, scores in passes:
            read = [active[n] for n in numbers]
            tokens = _choose(student, read, scores, sampling)
            if logprobs:
                found = log_probabilities(scores, tokens, sampling.temperature)
                for row, logprob in zip(read, found, strict=True):
                    row.logprobs.append(logprob)
            for n, row, token in zip(numbers, read, tokens, strict=True):
                decoder.pending[n] = _write(student, row, token, sampling)
        for n in reversed([n for n, row in enumerate(active) if row.done]):
            yield active[n]
            decoder.free_row(n)
            active[n] = active[-1]
            active.pop()


def _processors(student: Answerer, rows: Sequence[Rollout], sampling: Sampling
                ) -> LogitsProcessorList:
    """What changes the scores of these rows' next tokens before they are chosen."""
    processors = LogitsProcessorList(
        sampling_processors(sampling.temperature, sampling.top_k, sampling.top_p))
    if sampling.constrain_tool_names:
        names = [student.toolbox.names if row.environment is None else
                 tuple(s["function"]["name"] for s in row.environment.schemas) for row in rows]
        processors.insert(0, KnownToolNames(student.tokenizer, names))
    return processors


def _begin_turn(row: Rollout, sampling: Sampling) -> Rollout:
    """Give a row that samples the random numbers of its next turn."""
    if sampling.temperature > 0:
        row.random = turn_generator(sampling.seed, row.problem.id, row.sample, len(row.turns))
    return row


def _choose(student: Answerer, rows: Sequence[Rollout], scores: torch.Tensor, sampling: Sampling
            ) -> list[int]:
    """Each row's next token."""
    check_finite(scores)
    if processors := _processors(student, rows, sampling):
        last = [(r.prompt[-SEEN:] + r.completion[-SEEN:])[-SEEN:] for r in rows]
        pad = student.tokenizer.pad_token_id
        seen = torch.tensor([[pad] * (SEEN - len(ids)) + ids for ids in last], device=scores.device)
        scores = processors(seen, scores)
    return next_tokens(scores, [r.random for r in rows])


def _write(student: Answerer, row: Rollout, token: int, sampling: Sampling) -> list[int]:
    """Add a token to a row, and end its turn where that is over. Returns what it reads next."""
    row.completion.append(token)
    row.written.append(1)
    read = len(row.completion) - 1
    if token in student.format.stops or len(row.completion) >= sampling.max_new_tokens:
        _end_turn(student, row, sampling)
    return row.completion[read:]


def _max_turns(row: Rollout, sampling: Sampling) -> int:
    return row.environment.max_turns if row.environment else sampling.max_turns


def _run_generate(student: Answerer, rows: Sequence[Rollout], sampling: Sampling, slots: int
                  ) -> Iterator[Rollout]:
    """Finished rows, turn by turn through the model's own `generate`."""
    for start in range(0, len(rows), slots):
        active = [_begin_turn(row, sampling) for row in rows[start:start + slots]]
        while active:
            for row, ids in zip(active, _generate(student, active, sampling), strict=True):
                row.completion += ids
                row.written += [1] * len(ids)
                _end_turn(student, row, sampling)
            yield from (row for row in active if row.done)
            active = [row for row in active if not row.done]


@torch.no_grad()
def _generate(student: Answerer, rows: Sequence[Rollout], sampling: Sampling) -> list[list[int]]:
    """The next turn of each row, up to and including the end token. What samples is our own last
    processor, so that a row's tokens do not depend on its neighbours."""
    tokenizer, device = student.tokenizer, student.model.device
    contexts = [r.prompt + r.completion for r in rows]
    budgets = [sampling.max_new_tokens - len(r.completion) for r in rows]
    padded = tokenizer.pad({"input_ids": contexts}, padding_side="left", return_tensors="pt")
    batch = padded.to(device)
    config = GenerationConfig(
        max_new_tokens=max(budgets), do_sample=False, eos_token_id=list(student.format.stops),
        pad_token_id=tokenizer.pad_token_id)
    processors = _processors(student, rows, sampling)
    if sampling.temperature > 0:
        processors.append(Draw([r.random for r in rows]))
    output = student.model.generate(**batch, generation_config=config, logits_processor=processors)
    width = batch["input_ids"].shape[1]
    return [_until_end(ids, student.format.stops)[:budget]
            for budget, ids in zip(budgets, output[:, width:].tolist(), strict=True)]


def _until_end(ids: list[int], stops: Sequence[int]) -> list[int]:
    return ids[:next((n for n, i in enumerate(ids, 1) if i in stops), len(ids))]


def _end_turn(student: Answerer, row: Rollout, sampling: Sampling) -> None:
    """Close the turn that a row has written, add what follows it, and decide whether the rollout
    goes on."""
    ids = row.completion[row.begun:]
    ended = bool(ids) and ids[-1] in student.format.stops
    text = student.format.read(ids, row.prompt + row.completion[:row.begun])
    last = len(row.turns) == _max_turns(row, sampling) - 1
    response = _env_response(student, row, Turn(text)) if ended and not last else ""
    results = student.format.following_ids(Turn(text, "eos", response)) if response else []
    length = len(row.completion) + len(results)
    fits = length <= sampling.max_new_tokens and len(row.prompt) + length < student.positions
    if not (results and fits):
        row.turns.append(last_turn(text, ended))
        row.done = True
        return
    row.turns.append(Turn(text, "eos", response))
    row.completion += results
    row.written += [0] * len(results)
    row.logprobs += [0.0] * len(results) if row.logprobs else []
    row.begun = length
    if length == sampling.max_new_tokens:  # nothing is left for another turn
        row.turns.append(Turn("", "length"))
        row.done = True
        return
    _begin_turn(row, sampling)


def _env_response(student: Answerer, row: Rollout, turn: Turn) -> str:
    """What follows a turn, tool results or what the user says next; "" ends the rollout."""
    if row.environment is not None:
        response = row.environment.step(turn)
        return response.text if response else ""
    results = execute_turn(student.toolbox, turn)
    return render_environment(results) if results else ""
