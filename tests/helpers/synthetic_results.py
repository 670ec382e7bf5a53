"""A made-up study on disk: real runs of real Record objects, seeded, with the shape of the demo's
results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from mentor_kit.core.problem import Problem
from mentor_kit.core.records import Record, save_records
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.runs.open import init_run, load_run
from mentor_kit.runs.run import Run
from mentor_kit.toolboxes.arithmetic import ARITHMETIC

SPLITS = {"in_domain": 0.0, "distractor_seen": 0.08, "distractor_unseen": 0.3,
          "held_out_templates": 0.75,
          "longer_solutions": 0.35, "teacher_rejected": 0.2}
#           right, same tools, unknown name
SKILL = {"cold_start": (0.5, 0.34, 0.7), "cold_start_constrained": (0.78, 0.5, 0.0),
         "sft": (0.9, 0.97, 0.0),
         "sparse": (0.8, 0.56, 0.01), "mentor": (0.79, 0.86, 0.01),
         "any_overlap": (0.78, 0.6, 0.05),
         "no_tool_match": (0.8, 0.55, 0.01), "set_f1": (0.81, 0.8, 0.01)}
TERMS = {"sparse": {"answer": 1.0},
         "mentor": {"answer": 0.7, "set_match": 0.3, "no_unknown_tool": 0.1},
         "any_overlap": {"answer": 0.7, "any_overlap": 0.3},
         "no_tool_match": {"answer": 0.7, "no_unknown_tool": 0.1},
         "set_f1": {"answer": 0.7, "set_f1": 0.3, "no_unknown_tool": 0.1}}
TRAINED = ("sft", *TERMS)


def trajectory(
    problem_id: str, calls: list[tuple[str, dict]], answer: str | None, **kwargs
) -> Trajectory:
    """A trajectory that executes these calls one a turn, then boxes the answer (or says
    nothing)."""
    messages = []
    for name, arguments in calls:
        messages.append({"role": "assistant", "content": "next", "tool_calls": [
            {"type": "function", "function": {"name": name, "arguments": arguments}}]})
        messages.append({"role": "tool", "content": ARITHMETIC.execute(name, arguments).content})
    text = "I give up." if answer is None else f"The answer is \\boxed{{{answer}}}."
    return Trajectory.from_messages([*messages, {"role": "assistant", "content": text}], problem_id,
                                    **kwargs)


def teacher_record(split: str, index: int, template: int = 0) -> Record:
    """A problem with a teacher trajectory; in `teacher_rejected` there is no reference."""
    rng = np.random.default_rng([index, len(split)])
    a, b, c = (int(x) for x in rng.integers(2, 50, size=3))
    calls = [("multiply", {"a": a, "b": b}), ("add", {"a": a * b, "b": c})]
    answer = a * b + c
    if index % 3 == 1:
        calls, answer = (
            [("sum_numbers", {"numbers": [a, b, c]}), ("divide", {"a": a + b + c, "b": 2})],
            (a + b + c) / 2,
        )
    if index % 3 == 2:
        calls, answer = [*calls, ("subtract", {"a": answer, "b": 1})], answer - 1
    problem = Problem(f"gsm_symbolic/{template}/{split}/{index:05d}", "A question with numbers?",
                      (f"{answer:g}",),
                      "gsm_symbolic", split, meta={"template": template})
    made = trajectory(problem.id, calls, f"{answer:g}", producer="teacher")
    return Record(problem, made, None if split == "teacher_rejected" else made)


def student_record(teacher: Record, method: str, rng: np.random.Generator) -> Record:
    """The teacher's trajectory with this method's habits: other tools, invented names, wrong or
    missing answers."""
    right, same, unknown = SKILL[method]
    problem, calls = teacher.problem, [(c.name, c.arguments) for c in teacher.trajectory.calls]
    if rng.random() > same:
        calls = calls + [("round_number", {"x": 3.7})] if rng.random() < 0.5 else calls[:-1]
    if rng.random() < unknown:
        calls = [("calculate", calls[0][1]), *calls] if calls else calls
    correct = bool(rng.random() < right * (1 - SPLITS[problem.split]))
    silent = not correct and rng.random() < 0.1
    answer = None if silent else problem.answers[0] if correct else str(int(rng.integers(1000,
                                                                                         9999)))
    made = trajectory(problem.id, calls, answer, producer=f"student:{method}")
    meta = {"correct": correct, "judged_by": "number", "method": method, "failure": "no_answer"
            if silent else None,
            "teacher_correct": float(teacher.reference is not None or int(problem.id[-5:]) % 2)}
    return Record(problem, made.with_meta(**meta), teacher.reference)


def write_run(root: Path, study: str, stage: str, params: dict, *, metrics=(),
              budget: dict | None = None,
              seconds: float = 0.0, records=None, inputs=None) -> Run:
    """A finished run of the real run module, in the folder root/study/stage/key."""
    run = init_run(root / study / stage / "new", stage=stage, params=params, inputs=inputs)
    for row in metrics:
        run.log(row)
    if budget is not None:
        run.path("budget.json").write_text(json.dumps(budget, sort_keys=True, indent=1))
    if seconds:
        run.log_time("train", seconds)
    if records is not None:
        save_records(run.path("trajectories.parquet"), records)
    run.finish()
    folder = run.dir.with_name(run.key)
    if folder.exists():
        shutil.rmtree(folder)
    return load_run(run.dir.rename(folder))


def curve_rows(method: str, seed: int, steps: int) -> list[dict]:
    """Training metrics that rise from the cold start's to the method's skill."""
    rng = np.random.default_rng([seed, *method.encode()])
    rows = []
    for step in range(steps + 1):
        t = 1 - np.exp(-3 * step / steps)
        right, same, unknown = (b + (s - b) * t + rng.normal(0, 0.015)
                                for b, s in zip(SKILL["cold_start"], SKILL[method], strict=True))
        row = {"step": step, "loss": float(np.exp(-2 * t))}
        if method in TERMS:
            parts = {"answer": right, "set_match": same, "set_f1": same, "any_overlap": 0.9,
                     "no_unknown_tool": 1 - unknown}
            terms = {f"term/{n}": float(w * parts[n]) for n, w in TERMS[method].items()} | {
                "term/gate": 0.002
            }
            row |= terms | {"reward": sum(terms.values()), "judge_accuracy": right - 0.05,
                            "box_rate": 0.99,
                            "tool_calls": 3.3 - 0.6 * same,
                            "response_length": 120 - 30 * t + rng.normal(0, 2)}
        if step % 10 == 0:
            rows.append({"step": step, "val/accuracy": right, "val/set_match": same,
                         "val/similarity": 0.7 + 0.25 * same,
                         # a row of its own, as the trainer's monitor logs it
                         "val/unknown_tool": max(unknown, 0.0)})
        rows.append(row)
    return rows


def write_study(root: Path, methods=tuple(SKILL), seeds=(0, 1, 2), items: int = 24, steps: int = 40,
                sizes=(None,), study: str = "demo") -> Path:
    """results/<study>/{train,evaluate}/<key>/ for every method, seed and training size."""
    for method, seed, size in ((m, seed, size) for m in methods for seed in seeds
                               for size in sizes):
        collect = {"split_sizes": [f"train:{size}",
                                   "in_domain:24"]} if size else {"split_sizes": []}
        teacher = write_run(root, study, "collect", collect)
        params, inputs = {"method": method, "seed": seed}, {"teacher_run": teacher}
        if method in TRAINED:
            budget = {"optimizer_steps": steps, "sampled_tokens": 90000 * (method != "sft"),
                      "teacher_tokens": 40000 * (method != "sparse")}
            rows = curve_rows(method, seed, steps)
            inputs["student_run"] = write_run(root, study, "train", params, metrics=rows,
                                              budget=budget,
                                              seconds=95.0 + seed, inputs=dict(inputs))
        rng = np.random.default_rng([seed, len(method), size or 0])
        asked = [teacher_record(split, i, i % 7) for split in SPLITS for i in range(items)]
        stage = "evaluate_constrained" if method == "cold_start_constrained" else "evaluate"
        records = [student_record(r, method, rng) for r in asked]
        write_run(root, study, stage, {"seed": seed}, inputs=inputs, records=records)
    return root
