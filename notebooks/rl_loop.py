"""MENTOR in one file: sample a group, execute its tools, score it, compare it, take a step.

    python notebooks/rl_loop.py                 # from the latest collection and cold start
    python notebooks/rl_loop.py --steps 5 --reward sparse

This is the method without the machinery. The package's trainer computes the same steps (a test
compares rollouts, rewards, advantages, gradients and weights), but samples all rollouts together,
reads each prompt once for its group, validates, checkpoints, resumes and runs on several GPUs.

One step, for each of a few problems:

1. **Sample** `group_size` rollouts: turns of the student, each followed by its calls' results.
2. **Score** each rollout against the teacher's reference trajectory:
   R = 0.7 [answer right] + 0.3 [same tools] (x 0.2 when wrong) + 0.1 [no unknown tool].
3. **Compare** inside the group: A = (R - mean) / (std + 1e-4).
4. **Learn**: raise the log-probability of what the student wrote, weighted by A. Tool results are
   not the student's words: they are masked from the loss.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

import mentor_kit as mk
from mentor_kit.core.chat_markup import render_environment
from mentor_kit.students.sampling import next_tokens, step_seed, turn_generator


@dataclass(frozen=True)
class Settings:
    """Names and meaning are those of notebook 03."""

    group_size: int = 8  # rollouts of a prompt
    learning_rate: float = 2e-4
    temperature: float = 1.0
    max_turns: int = 5
    max_new_tokens: int = 256  # of all turns and tool results together
    epsilon: float = 0.2  # clip range of the ratio
    delta: float = 3.0  # upper bound of the ratio
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    seed: int = 0


@dataclass
class Rollout:
    """What a student did with one problem, as token ids and as turns."""

    prompt: list[int]
    completion: list[int] = field(default_factory=list)
    written: list[int] = field(default_factory=list)  # 1: the student's token; 0: a tool result's
    turns: list[mk.Turn] = field(default_factory=list)


# ------------------------------------------------------------------------------------ 1. sample
@torch.no_grad()
def sample_rollout(student, problem: mk.Problem, number: int, seed: int, s: Settings) -> Rollout:
    """One rollout: write a turn, execute its calls, go on until a turn calls no tool."""
    rollout = Rollout(student.prompt_ids(problem.question))
    cache, unread = None, rollout.prompt
    while len(rollout.turns) < s.max_turns:
        random, turn = turn_generator(seed, problem.id, number, len(rollout.turns)), []
        while not turn or turn[-1] != student.tokenizer.eos_token_id:
            if len(rollout.completion) == s.max_new_tokens:  # cut off: no end token, reward 0
                rollout.turns.append(mk.Turn(student.tokenizer.decode(turn), "length"))
                return rollout
            output = student.model(torch.tensor([unread]), past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            token = next_tokens(output.logits[:, -1].float() / s.temperature, [random])[0]
            unread = [token]
            turn.append(token)
            rollout.completion.append(token)
            rollout.written.append(1)
        text = student.tokenizer.decode(turn[:-1])
        calls = mk.Turn(text).runnable_calls
        last = len(rollout.turns) == s.max_turns - 1
        results = [] if last else [student.toolbox.execute(c.name, c.arguments) for c in calls]
        response = render_environment([r.content for r in results]) if results else ""
        ids = student.tokenizer(response, add_special_tokens=False)["input_ids"] if response else []
        if not ids or len(rollout.completion) + len(ids) > s.max_new_tokens:
            rollout.turns.append(mk.Turn(text, "max_turns" if calls else "eos"))
            return rollout
        rollout.turns.append(mk.Turn(text, "eos", response))
        rollout.completion += ids
        rollout.written += [0] * len(ids)
        unread = unread + ids
    return rollout


# ------------------------------------------------------------------------------------- 2. score
def score(reward: Callable, record: mk.Record, rollouts: Sequence[Rollout]) -> list[float]:
    """The reward of each rollout of a record's problem, against its reference."""
    trajectories = [mk.Trajectory(record.problem.id, tuple(r.turns)) for r in rollouts]
    return [reward(record.problem, record.trajectory, t).total for t in trajectories]


# ----------------------------------------------------------------------------------- 3. compare
def group_advantages(rewards: Sequence[float]) -> torch.Tensor:
    """How much better each rollout is than its group, in standard deviations: (group_size,)."""
    values = torch.tensor(rewards)
    return (values - values.mean()) / (values.std() + 1e-4)


# ------------------------------------------------------------------------------------- 4. learn
def completion_logprobs(student, rollout: Rollout, temperature: float) -> torch.Tensor:
    """The log-probability of each token of the completion: (tokens,)."""
    ids = torch.tensor([rollout.prompt + rollout.completion])
    scores = student.model(ids).logits[0, len(rollout.prompt) - 1:-1].float() / temperature
    chosen = ids[0, len(rollout.prompt):]
    return scores.log_softmax(-1).gather(1, chosen[:, None])[:, 0]


def rollout_loss(student, rollout: Rollout, advantage: torch.Tensor, old: torch.Tensor | None,
                 s: Settings) -> torch.Tensor:
    """GRPO's clipped objective, summed over what the student wrote.

        ratio_t = pi(token_t) / pi_old(token_t)
        loss    = - sum_t written_t * min(min(ratio_t, delta) A, clip(ratio_t, 1 +- epsilon) A)

    In the first pass over a rollout pi is pi_old, the ratio is 1, and the gradient is that of
    -A log pi(token_t).
    """
    logprobs = completion_logprobs(student, rollout, s.temperature)
    ratio = (logprobs - (logprobs.detach() if old is None else old)).exp()
    clipped = ratio.clamp(1 - s.epsilon, 1 + s.epsilon)
    gain = torch.min(ratio.clamp(max=s.delta) * advantage, clipped * advantage)
    return -(gain * torch.tensor(rollout.written)).sum()


def make_optimizer(student, s: Settings) -> torch.optim.Optimizer:
    """AdamW; norms do not decay."""
    parameters = list(student.model.parameters())
    return torch.optim.AdamW([
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": s.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}],
        lr=s.learning_rate)


def take_step(student, optimizer, records: Sequence[mk.Record], reward: Callable, step: int,
              s: Settings) -> dict[str, float]:
    """One optimizer step on one group of rollouts of each record's problem."""
    seed, groups = step_seed(s.seed, step), []
    student.model.eval()
    for place, record in enumerate(records):
        numbers = range(place * s.group_size, (place + 1) * s.group_size)
        rollouts = [sample_rollout(student, record.problem, n, seed, s) for n in numbers]
        rewards = score(reward, record, rollouts)
        groups.append((rollouts, rewards, group_advantages(rewards)))

    tokens = sum(sum(r.written) for rollouts, _, _ in groups for r in rollouts)
    student.model.train()
    for rollouts, _, advantages in groups:
        for rollout, advantage in zip(rollouts, advantages, strict=True):
            (rollout_loss(student, rollout, advantage, None, s) / tokens).backward()
    norm = torch.nn.utils.clip_grad_norm_(student.model.parameters(), s.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()

    means = [sum(rewards) / len(rewards) for _, rewards, _ in groups]
    flat = sum(max(rewards) == min(rewards) for _, rewards, _ in groups)
    return {"step": step, "reward": sum(means) / len(means), "grad_norm": float(norm),
            "groups_without_difference": flat / len(groups), "tokens": tokens}


def train(student, batches: Iterable[Sequence[mk.Record]], reward: Callable,
          s: Settings) -> Iterator[dict[str, float]]:
    """Train on batches of teacher records, in place; yields each step's numbers."""
    optimizer = make_optimizer(student, s)
    for step, records in enumerate(batches, start=1):
        yield take_step(student, optimizer, records, reward, step, s)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, default=10)
    options.add_argument("--prompts", type=int, default=4, help="prompts a step")
    options.add_argument("--reward", default="mentor", help="anything that mk.load_reward takes")
    asked = options.parse_args()

    student = mk.load_student(mk.load_run(stage="cold_start").path("student"))
    references = mk.load_collection(mk.load_run(stage="collect")).accepted("train")
    batches = [references[i * asked.prompts:(i + 1) * asked.prompts] for i in range(asked.steps)]
    for numbers in train(student, batches, mk.load_reward(asked.reward), Settings()):
        print("  ".join(f"{name} {value:.3g}" for name, value in numbers.items()), flush=True)
    mk.show(student.ask(references[0].problem))


if __name__ == "__main__":
    main()
