"""The one call of notebook 03: make or load a student, train it by a method, store everything in
the run."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mentor_kit.collection.collection import load_collection
from mentor_kit.core.environment import make_environment
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.errors import UserError
from mentor_kit.rewards import load_reward
from mentor_kit.runs.files import read_json, write_atomic
from mentor_kit.runs.open import find_path, init_run, latest_run, load_run
from mentor_kit.runs.run import Run
from mentor_kit.students.loading import LoadConfig
from mentor_kit.training import processes
from mentor_kit.training.checkpoints import drop_scratch
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.data import TrainingData, load_training_data
from mentor_kit.training.launch import train_in_processes

if TYPE_CHECKING:
    from mentor_kit.students.student import Student

STUDENT = "student"  # the folder of a run that holds the trained student
BUDGET = "budget.json"


def stage_name(config: TrainConfig) -> str:
    return "cold_start" if config.kind == "cold_start" else "train"


def inputs(config: TrainConfig, teacher: Run) -> dict[str, Run]:
    """The runs this run is made from: the teacher's, the cold start, and of method `opd` the
    white-box teacher's, where that is a run.

    `start_run="none"` trains `student_source` directly; with "" a cold start is made where there is
    none yet. A cold start takes the vocabulary of the run that it names, if it names one.

    Raises:
        UserError: `opd` without a teacher, or a run that is not there.
    """
    found = {"teacher_run": teacher}
    if config.method == "opd":
        if not config.distill_from:
            raise UserError("method='opd' needs a white-box teacher: set distill_from to a run of "
                            "this notebook, to a folder or to a hub id.")
        if (find_path(config.distill_from) / "params.yaml").is_file():
            found["distill_from"] = load_run(config.distill_from)
    if config.start_run != "none" and (config.start_run or config.kind != "cold_start"):
        needs_one = not config.start_run and latest_run("cold_start") is None
        found["start_run"] = (make_cold_start(config, teacher) if needs_one
                              else load_run(config.start_run, stage="cold_start"))
    return found


def make_cold_start(config: TrainConfig, teacher: Run) -> Run:
    """Train the cold start that `config` needs, with the same parameters, into
    results/interactive. `references` is what a method learns from, so the cold start takes all."""
    print("There is no cold start yet: one is made first, under results/interactive/cold_start.")
    asked = config.model_copy(update={"method": "cold_start", "reward": "",
                                      "references": 0, "distill_from": ""})
    run = init_run(stage="cold_start", params=asked.model_dump(), inputs={"teacher_run": teacher})
    data = load_training_data(load_collection(teacher), asked)
    student = make_student(asked, data, None)
    return run.finish(method=asked.method, **train(asked, student, data, run))


def make_student(config: TrainConfig, data: TrainingData, start: Run | None) -> Student:
    """The student to train: the start run's, a folder or hub id, or the embedded one from scratch.
    A cold start begins from scratch; a start run gives it its vocabulary.

    Raises:
        UserError: it cannot be loaded so, or a lesson is longer than `max_seq_length`.
    """
    from mentor_kit.students.backends import SEVERAL_PROCESSES, prepare_backend

    vocabulary = start.path(STUDENT) if start and config.kind == "cold_start" else None
    if vocabulary and config.student_source != "tiny":
        raise UserError(f"start_run gives a cold start from scratch its vocabulary, and "
                        f"student_source={config.student_source!r} has its own: leave start_run "
                        "empty.")
    start = None if vocabulary else start
    made_here = (start.params.get("student_source", "tiny") == "tiny" if start
                 else config.student_source == "tiny")
    if made_here and config.student_backend == "auto":
        chosen, why = "transformers", "the embedded student needs no other"
    # as its child processes will choose
    elif config.num_processes > 1 and config.student_backend == "auto":
        chosen, why = "transformers", SEVERAL_PROCESSES
    elif config.student_backend == "auto" and (config.of_groups or config.kind == "dpo"):
        chosen, why = "transformers", f"method {config.method} trains by the kit's engine"
    else:
        chosen, why = prepare_backend(config.student_backend, grpo_packing=config.grpo_packing)
    # not before: Unsloth comes before transformers
    from mentor_kit.students.student import load_student

    toolbox, loading = data.train[0].problem.toolbox, config.loading(embedded=made_here)
    source = start.path(STUDENT) if start else config.student_source
    if source == "tiny":
        student = _from_scratch(config, data, chosen, loading, vocabulary)
    else:
        student = load_student(source, toolbox, name=config.method, backend=chosen, loading=loading,
                               template=config.student_template)
    named = (f"{start.dir.parent.name}/{start.dir.name}/{STUDENT}" if start
             else config.student_source)
    student.origin = replace(student.origin, source=named, why=why)
    if not made_here:
        _check_lengths(config, student, data)
    return student


def _from_scratch(config: TrainConfig, data: TrainingData, backend: str,
                  loading: LoadConfig, vocabulary: Path | None) -> Student:
    """The embedded student. Another backend than transformers loads it from a folder, as any
    other.

    Args:
        vocabulary: the folder whose tokenizer it takes; None makes one of the training data.
    """
    from transformers import AutoTokenizer

    from mentor_kit.students.backends import device
    from mentor_kit.students.student import Origin, Student, load_student
    from mentor_kit.students.tiny import build_model, build_tokenizer

    problem = data.train[0].problem
    box, environment = load_toolbox(problem.toolbox), make_environment(problem)
    tools = environment.toolbox if environment else box
    signatures = [f"{t.name}({', '.join(t.parameters)})" for t in tools.tools.values()] * 20
    texts = [t for r in data.train for t in (r.problem.question, r.trajectory.to_text())]
    tokenizer = AutoTokenizer.from_pretrained(vocabulary, padding_side="left") if vocabulary \
        else build_tokenizer(signatures + texts, config.vocab_size, toolbox=tools)
    model = build_model(tokenizer, hidden_size=config.student_hidden, layers=config.student_layers,
                        seed=config.seed)
    student = Student(model.to(device()), tokenizer, box, config.method, Origin(loading=loading))
    if backend == "transformers" and loading.finetuning == "full":
        return student
    with TemporaryDirectory() as folder:
        saved = student.save(Path(folder) / STUDENT)
        return load_student(saved, box, name=config.method, backend=backend, loading=loading)


def _check_lengths(config: TrainConfig, student: Student, data: TrainingData) -> None:
    """Unsloth cuts what is longer than it was loaded for, without a word; a cut trajectory has no
    answer. Beyond its last position a model reads nothing well, and rollouts drop tool results
    there."""
    from mentor_kit.students.rollout import prompt_ids

    if config.kind in ("grpo", "dpo"):
        longest = (max(len(prompt_ids(student, r.problem)) for r in data.train)
                   + config.max_new_tokens)
        lesson = "longest prompt and max_new_tokens together have"
    else:
        longest = max(len(student.encode(r.problem, r.trajectory)["input_ids"])
                      for r in data.train)
        lesson = "longest lesson has"
    if longest > config.max_seq_length:
        raise UserError(f"The {lesson} {longest} tokens, above max_seq_length = "
                        f"{config.max_seq_length}: raise max_seq_length to {longest}, or leave "
                        "such problems out.")
    if longest > student.positions:
        raise UserError(f"The {lesson} {longest} tokens, above the {student.positions} positions "
                        "that the student can read: lower max_new_tokens, prompt it with "
                        "student_template=kit (fewer tokens for the tools), or take another "
                        "student.")


def train(config: TrainConfig, student: Student, data: TrainingData, run: Run,
          inputs: Mapping[str, Run] | None = None) -> dict[str, Any]:
    """Train by `config.method`, then store the student, its rollouts and its budget in the run.

    Interrupted, it continues from its last checkpoint; `student` ends as the one that is stored.
    With `config.num_processes` above 1 child processes do it, for which `inputs` are the run's
    input runs.

    Returns:
        The budget: optimizer_steps, sampled_tokens, teacher_tokens, parameters.

    Raises:
        UserError: what cannot be trained so, or a training that collapsed (`TrainingCollapsed`):
            nothing is stored.
    """
    here = config.num_processes == processes.count()
    trained_before = read_json(run.dir / BUDGET) is not None
    if not trained_before and here:
        with run.time("train"):
            _train_here(config, student, data, run)
    elif not trained_before:
        _free_memory(student)
        train_in_processes(config, inputs or {}, run)
    budget = processes.share(read_json(run.dir / BUDGET) if processes.is_first() else None)
    if trained_before or not here:  # in other processes, or before an interruption
        from mentor_kit.students.student import load_student

        student.model = load_student(run.path(STUDENT), student.toolbox).model
    if processes.is_first():
        # put aside where the run was started again after its training
        run.resume_metrics(budget["optimizer_steps"])
        drop_scratch(run)
    return budget


def _free_memory(student: Student) -> None:
    """Drop the model: the child processes need its memory, that of the GPU too, which torch would
    keep."""
    import torch

    student.model = None
    gc.collect()
    torch.cuda.empty_cache()  # without a GPU it does nothing


def _train_here(config: TrainConfig, student: Student, data: TrainingData, run: Run) -> None:
    """The budget is written last: where it is, everything else is."""
    ways = {"grpo": _train_grpo, "dpo": _train_dpo}
    budget = ways.get(config.kind, _train_sft)(config, student, data, run)
    budget["parameters"] = sum(p.numel() for p in student.model.parameters())
    if not processes.is_first():
        return
    from mentor_kit.students.student import model_card

    facts = {"method": config.method, "seed": config.seed, **budget}
    if not run.path(STUDENT).exists():
        student.save(run.path(STUDENT), model_card(f"{config.method} student", facts))
    write_atomic(run.path(BUDGET), json.dumps(budget, sort_keys=True, indent=1) + "\n")


def _train_sft(config: TrainConfig, student: Student, data: TrainingData, run: Run
               ) -> dict[str, Any]:
    from mentor_kit.training.sft import train_sft

    return train_sft(student, data.train, data.validation, config, run, data.parts)


def _train_dpo(config: TrainConfig, student: Student, data: TrainingData, run: Run
               ) -> dict[str, Any]:
    from mentor_kit.training.preferences import train_dpo

    reward = load_reward(config.reward_spec)
    return train_dpo(student, data.train, data.validation, reward, config, run)


def _train_grpo(config: TrainConfig, student: Student, data: TrainingData, run: Run) -> dict[str,
                                                                                           Any]:
    from mentor_kit.training.grpo import train_grpo

    teacher = None
    if config.method == "opd":
        from mentor_kit.training.distillation import WhiteBoxTeacher

        folder = find_path(config.distill_from)
        found = [f for f in (folder / STUDENT, folder) if f.is_dir()]
        source = found[0] if found else config.distill_from
        teacher = WhiteBoxTeacher(source, student.toolbox, config.student_template)
    reward = load_reward(config.reward_spec)
    return train_grpo(student, data.train, data.validation, reward, config, run, teacher)
