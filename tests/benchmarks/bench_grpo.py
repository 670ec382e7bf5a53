"""Our GRPO step against a bare TRL script: same model, prompts, batch and sampling settings,
alternating pairs.

    python tests/benchmarks/bench_grpo.py [--pairs 7] [--other-pairs 3] [--student FOLDER]

Three kinds of step, 128 rollouts each: groups of 8 and of 16 by a student that calls tools, and
groups of 8 by an untrained one, which hardly ever ends before its 300 tokens. Each pair takes one
optimizer step from the same weights; ours also judges, scores against the reference, logs and
stores. Rollouts are drawn by different random numbers, so the tokens of both are printed beside
their ratio. Ratios are of CPU seconds of the process (one thread; on an idle machine these are
seconds), so that other work on the machine does not count. Fails where a stated limit is missed.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MENTOR_KIT_QUIET"] = "1"

import torch
from transformers import AutoTokenizer, TrainerCallback

from mentor_kit.collection.collect import attempt
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.problems import load_problems
from mentor_kit.rewards import load_reward
from mentor_kit.runs.open import init_run
from mentor_kit.students.student import Student, load_student, prompt_messages
from mentor_kit.students.tiny import build_model, build_tokenizer
from mentor_kit.teachers import load_teacher
from mentor_kit.training.checkpoints import tiled_order
from mentor_kit.training.config import TrainConfig

COLD_START_STEPS = 120  # enough for rollouts of natural length
LIMIT = 0.40  # of bare TRL's time, the median of the pairs, for every kind of step
GOAL = 0.30
KINDS = {"groups of 8": {}, "groups of 16": {"prompts_per_step": 8, "group_size": 16},
         "completions of 300": {"max_new_tokens": 300}}
SHARED = {"steps": 1, "prompts_per_step": 16, "group_size": 8, "micro_batch": 32,
          "max_new_tokens": 160,
          "validate_every": 0, "save_every": 0}


def records(n: int) -> list:
    teacher = load_teacher("worked_solution")
    found = [attempt(p, teacher) for p in load_problems("gsm_symbolic", 0, {"train": n})]
    return [r for r in found if r.trajectory.meta["accepted"]]


def untrained(lessons: list) -> Student:
    texts = [t for r in lessons for t in (r.problem.question, r.trajectory.to_text())]
    tokenizer = build_tokenizer(texts)
    return Student(build_model(tokenizer), tokenizer, load_toolbox("arithmetic"))


def cold_start(lessons: list) -> Student:
    from mentor_kit.training.sft import train_sft

    student = untrained(lessons)
    config = TrainConfig(method="cold_start", cold_start_steps=COLD_START_STEPS,
                         cold_start_batch=32,
                         cold_start_accuracy=0, cold_start_cooldown=0, validate_every=0,
                         save_every=0)
    with tempfile.TemporaryDirectory() as folder:
        train_sft(student, lessons, [], config, init_run(folder, stage="train", params={}))
    return student


def clone(student: Student) -> Student:
    """A copy with weights of its own (a trained model keeps a bound `forward`, which deepcopy would
    share).

    The trainer leaves `use_cache` off in the configuration; a model made from it would generate
    without a cache.
    """
    student.model.config.use_cache = True
    model = type(student.model)(student.model.config)
    model.load_state_dict(student.model.state_dict())
    return Student(model, student.tokenizer, student.toolbox)


class Clock(TrainerCallback):
    """CPU seconds of the optimizer step and of its sampling, and the tokens that were sampled and
    read."""

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.step = time.process_time() - self.started

    def watch(self, trainer: Any) -> Clock:
        """Measure this trainer."""
        generate = trainer._generate

        def timed(prompts: list) -> Any:
            before = time.process_time()
            found = generate(prompts)
            self.sampling = time.process_time() - before
            prompt_ids, completion_ids, tool_mask = found[:3]
            self.written = (
                sum(map(sum, tool_mask or completion_ids))
                if tool_mask
                else sum(map(len, completion_ids))
            )
            self.read = sum(map(len, prompt_ids)) + sum(map(len, completion_ids))
            return found

        trainer._generate = timed
        trainer.add_callback(self)
        return self

    @property
    def sampled_a_second(self) -> float:
        return self.written / self.sampling

    @property
    def updated_a_second(self) -> float:
        """Tokens of prompts and completions, each rollout's, as one who reads all of them would
        count."""
        return self.read / (self.step - self.sampling)


@contextmanager
def our_trainer(student: Student, lessons: list, config: TrainConfig) -> Any:
    from mentor_kit.training.callback import RunCallback
    from mentor_kit.training.grpo import grpo_trainer
    from mentor_kit.training.reward_function import RewardFunction

    with tempfile.TemporaryDirectory() as folder:
        run, learner = init_run(folder, stage="train", params={}), clone(student)
        reward_function = RewardFunction(learner.format, lessons, load_reward("mentor"), run,
                               "student:bench")
        order = tiled_order(len(lessons), config.prompts_per_step, config.seed)
        callback = RunCallback(run, learner, [], config)
        yield grpo_trainer(learner, order, reward_function, config, run, callback)


@contextmanager
def bare_trainer(student: Student, lessons: list, config: TrainConfig) -> Any:
    """What a script with TRL alone makes: native tools, a string comparison as the reward."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    def reward(completions: list, answer: list, **_: Any) -> list[float]:
        boxed = [re.findall(r"\\boxed\{(.*?)\}", c[-1]["content"] or "") for c in completions]
        return [float(bool(b) and b[-1] == a) for b, a in zip(boxed, answer, strict=True)]

    order = tiled_order(len(lessons), config.prompts_per_step, config.seed)
    rows = [{"prompt": prompt_messages(lessons[i].problem.question),
             "answer": lessons[i].problem.answers[0]}
            for i in order]
    micro = config.rollouts // config.micro_batch
    with tempfile.TemporaryDirectory() as folder:
        student.tokenizer.save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)  # TRL's own reading of turns
        arguments = GRPOConfig(
            output_dir=folder, max_steps=1, seed=config.seed,
            per_device_train_batch_size=config.micro_batch,
            steps_per_generation=micro, gradient_accumulation_steps=micro,
            num_generations=config.group_size,
            shuffle_dataset=False, max_completion_length=config.max_new_tokens,
            max_tool_calling_iterations=config.max_turns - 1, temperature=config.temperature,
            top_k=0, top_p=1.0,
            loss_type="dapo", beta=0.0, epsilon=0.2, delta=3.0, learning_rate=config.learning_rate,
            optim="adamw_torch",
            lr_scheduler_type="constant", weight_decay=config.weight_decay, use_cpu=True,
            bf16=False,
            gradient_checkpointing=False, disable_tqdm=True, report_to="none", save_strategy="no",
            logging_steps=10)
        yield GRPOTrainer(model=clone(student).model, processing_class=tokenizer, args=arguments,
                          reward_funcs=reward,
                          train_dataset=Dataset.from_list(rows),
                          tools=student.toolbox.as_functions())


def step(maker: Callable, student: Student, lessons: list, config: TrainConfig) -> Clock:
    with maker(student, lessons, config) as trainer:
        clock = Clock().watch(trainer)
        trainer.train()
    return clock


def compare(kind: str, pairs: int, student: Student, lessons: list) -> float:
    """Alternating pairs; prints each, and returns the median ratio."""
    config, ratios, clocks = TrainConfig(**SHARED | KINDS[kind]), [], []
    for maker in (our_trainer, bare_trainer):  # warm both up
        step(maker, student, lessons, config)
    for i in range(pairs):
        makers = (our_trainer, bare_trainer) if i % 2 == 0 else (bare_trainer, our_trainer)
        found = {maker: step(maker, student, lessons, config) for maker in makers}
        ours, bare = found[our_trainer], found[bare_trainer]
        ratios.append(ours.step / bare.step)
        clocks.append((ours, bare))
        print(f"{kind}, pair {i + 1}: ours {ours.step:.2f} CPU-s, bare TRL {bare.step:.2f}, ratio "
              f"{ratios[-1]:.3f}",
              flush=True)
    median = statistics.median(ratios)
    print(f"{kind}: median ratio {median:.3f} (lowest {min(ratios):.3f}, highest "
          f"{max(ratios):.3f}, {pairs} pairs; at most {LIMIT}, goal {GOAL})")
    for name, of in (("ours", [c[0] for c in clocks]), ("bare TRL", [c[1] for c in clocks])):
        print(f"  {name:9} sampling {statistics.median(c.sampled_a_second for c in of):6.0f} "
              f"tokens/s, update {statistics.median(c.updated_a_second for c in of):6.0f} "
              f"tokens/s; {of[0].written} tokens written, {of[0].read} read")
    return median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--other-pairs", type=int, default=3,
                        help="of groups of 16 and of long completions")
    parser.add_argument("--student", default="",
                        help="a trained student's folder [default: one is trained, a minute]")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lessons = records(600)
    trained = load_student(options.student) if options.student else cold_start(lessons)
    missed = []
    for number, kind in enumerate(KINDS):
        student = untrained(lessons) if "300" in kind else trained
        if compare(kind, options.other_pairs if number else options.pairs, student,
                   lessons) > LIMIT:
            missed.append(kind)
    if missed:
        sys.exit(f"a GRPO step takes more than {LIMIT} of bare TRL's time: {', '.join(missed)}")


if __name__ == "__main__":
    main()
