"""Our GRPO step against a bare TRL script: same model, tools, prompts, batch and seed, alternating pairs.

    python tests/benchmarks/bench_grpo.py [--pairs 7] [--student FOLDER]

Both take one optimizer step from the same weights with the same seed, so both sample the same rollouts; ours also
judges, scores against the reference, logs and stores them. Prints the ratio of each pair, their median and spread.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MENTOR_KIT_QUIET"] = "1"

from transformers import TrainerCallback

from mentor_kit.collection.collect import attempt
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.problems import load_problems
from mentor_kit.rewards import load_reward
from mentor_kit.runs.open import start_run
from mentor_kit.students.student import Student, load_student, prompt_messages
from mentor_kit.students.tiny import build_model, build_tokenizer
from mentor_kit.teachers import load_teacher
from mentor_kit.training.config import TrainConfig

COLD_START_STEPS = 120  # enough for rollouts of natural length


def records(n: int) -> list:
    teacher = load_teacher("worked_solution")
    found = [attempt(p, teacher) for p in load_problems("gsm_symbolic", 0, {"train": n})]
    return [r for r in found if r.trajectory.meta["accepted"]]


def cold_start(lessons: list) -> Student:
    from mentor_kit.training.sft import train_sft

    texts = [t for r in lessons for t in (r.problem.question, r.trajectory.to_text())]
    tokenizer = build_tokenizer(texts)
    student = Student(build_model(tokenizer), tokenizer, load_toolbox("arithmetic"))
    settings = TrainConfig(method="cold_start", cold_start_steps=COLD_START_STEPS, cold_start_batch=32,
                           cold_start_accuracy=0, cold_start_cooldown=0, validate_every=0, save_every=0)
    with tempfile.TemporaryDirectory() as folder:
        train_sft(student, lessons, [], settings, start_run(folder, stage="train", params={}))
    return student


def clone(student: Student) -> Student:
    """A copy with weights of its own (a trained model keeps a bound `forward`, which deepcopy would share).

    The trainer leaves `use_cache` off in the configuration; a model made from it would generate without a cache.
    """
    student.model.config.use_cache = True
    model = type(student.model)(student.model.config)
    model.load_state_dict(student.model.state_dict())
    return Student(model, student.tokenizer, student.toolbox)


class Clock(TrainerCallback):
    """Wall time of the first optimizer step."""

    def on_step_begin(self, *_, **__):
        self.started = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.seconds = time.perf_counter() - self.started


def our_step(student: Student, lessons: list, settings: TrainConfig) -> float:
    from mentor_kit.training.grpo import train_grpo

    with tempfile.TemporaryDirectory() as folder:
        run = start_run(folder, stage="train", params={})
        train_grpo(clone(student), lessons, [], load_reward("mentor"), settings, run)
        return run.timing()["step"]


def bare_step(student: Student, lessons: list, settings: TrainConfig) -> float:
    """What a script with TRL alone does: native tools, a string comparison as the reward."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from mentor_kit.training.checkpoints import tiled_order

    def reward(completions, answer, **_):
        boxed = [re.findall(r"\\boxed\{(.*?)\}", c[-1]["content"] or "") for c in completions]
        return [float(bool(b) and b[-1] == a) for b, a in zip(boxed, answer, strict=True)]

    order = tiled_order(len(lessons), settings.prompts_per_step, settings.seed)
    rows = [{"prompt": prompt_messages(lessons[i].problem.question), "answer": lessons[i].problem.answers[0]} for i in order]
    micro = settings.rollouts // settings.micro_batch
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder, max_steps=1, seed=settings.seed, per_device_train_batch_size=settings.micro_batch,
            steps_per_generation=micro, gradient_accumulation_steps=micro, num_generations=settings.group_size,
            shuffle_dataset=False, max_completion_length=settings.max_new_tokens,
            max_tool_calling_iterations=settings.max_turns - 1, temperature=settings.temperature, top_k=0, top_p=1.0,
            loss_type="dapo", beta=0.0, epsilon=0.2, delta=3.0, learning_rate=settings.learning_rate, optim="adamw_torch",
            lr_scheduler_type="constant", weight_decay=settings.weight_decay, use_cpu=True, bf16=False,
            gradient_checkpointing=False, disable_tqdm=True, report_to="none", save_strategy="no", logging_steps=1)
        trainer = GRPOTrainer(model=clone(student).model, processing_class=student.tokenizer, args=config,
                              reward_funcs=reward, train_dataset=Dataset.from_list(rows),
                              tools=student.toolbox.as_functions(), callbacks=[clock])
        trainer.train()
    return clock.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--student", default="", help="a trained student's folder [default: one is trained, a minute]")
    options = parser.parse_args()
    pairs = options.pairs
    lessons = records(600)
    student = load_student(options.student) if options.student else cold_start(lessons)
    settings = TrainConfig(steps=1, max_new_tokens=160, validate_every=0, save_every=0)
    our_step(student, lessons, settings), bare_step(student, lessons, settings)  # warm both up
    times = []
    for i in range(pairs):
        first, second = (our_step, bare_step) if i % 2 == 0 else (bare_step, our_step)
        result = {f.__name__: f(student, lessons, settings) for f in (first, second)}
        times.append((result["our_step"], result["bare_step"]))
        print(f"pair {i + 1}: ours {times[-1][0]:.2f} s, bare TRL {times[-1][1]:.2f} s, ratio {times[-1][0] / times[-1][1]:.3f}")
    ratios = sorted(ours / bare for ours, bare in times)
    print(f"GRPO step, {settings.rollouts} rollouts: median ratio {statistics.median(ratios):.3f} "
          f"(lowest {ratios[0]:.3f}, highest {ratios[-1]:.3f}, {pairs} pairs; promised at most 1.05)")


if __name__ == "__main__":
    main()
