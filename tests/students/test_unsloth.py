"""Unsloth's CPU backend through our own backend and stage code: same params, same calls, same
artefacts, same method.

    make test-unsloth

Each training runs in a process of its own (tests/helpers/unsloth_child.py): Unsloth rewrites the
process it is imported into.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from other_process import printed_by
from safetensors.torch import load_file
from small_student import BOX, untrained

from mentor_kit.collection.collect import collect
from mentor_kit.collection.config import CollectConfig
from mentor_kit.core.records import load_records
from mentor_kit.runs.open import init_run
from mentor_kit.runs.parameters import configure
from mentor_kit.students.student import load_student
from mentor_kit.training.trainer_config import FILE, differences

pytestmark = pytest.mark.unsloth
TESTS = Path(__file__).parents[1]
PARAMS = {"start_run": "none", "finetuning": "lora", "lora_rank": 4, "steps": 2,
          "prompts_per_step": 2, "group_size": 4,
          "micro_batch": 4, "sft_batch": 4, "sft_micro_batch": 2, "max_new_tokens": 48,
          "max_seq_length": 512,
          "rollout_engine": "trl", "shared_prompts": False, "validate_every": 1,
          "validation_items": 2, "save_every": 1, "learning_rate": 1e-3, "loss_type": "dr_grpo"}
COLD = ("student_source=tiny", "finetuning=auto", "student_hidden=64", "student_layers=1",
        "vocab_size=400",
        "cold_start_steps=2", "cold_start_batch=4", "cold_start_accuracy=0.9")
CASES = {"grpo-lora": ("method=mentor",), "sft-lora": ("method=sft", "gradient_checkpointing=true"),
         "grpo-full": ("method=sparse", "finetuning=full", "updates_per_batch=2", "save_every=2",
                       "warmup_steps=1"),
         "cold-start": ("method=cold_start", *COLD)}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A collection, a folder with a small random Qwen3 with our tokenizer and template, and the
    params file."""
    folder = tmp_path_factory.mktemp("unsloth")
    asked = configure(CollectConfig, problems="arithmetic_stories",
                      split_sizes=["train:12", "validation:2"])
    run = init_run(folder / "collection", stage="collect", params=asked.model_dump())
    collection = collect(asked, run)
    run.finish(**collection.counts())
    untrained(collection.accepted("train"), width=64, layers=2).save(folder / "student")
    (folder / "params.yaml").write_text(
        yaml.safe_dump(PARAMS | {"student_source": str(folder / "student")})
    )
    return folder


def child(project: Path, run: str, *settings: str) -> dict:
    """What the child process printed last."""
    command = [sys.executable, TESTS / "helpers" / "unsloth_child.py", project / "params.yaml",
               project / "collection",
               project / run]
    done = subprocess.run([*map(str, command), *settings], capture_output=True, text=True,
                          timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module", params=CASES)
def both(request, project) -> dict[str, tuple[Path, dict]]:
    """One case on each backend: run folder and what the child said."""
    names = {b: f"{request.param}-{b}" for b in ("transformers", "unsloth")}
    return {b: (project / n, child(project, n, f"student_backend={b}", *CASES[request.param]))
            for b, n in names.items()}


def test_the_backend_is_the_one_asked_for(both):
    for backend, (_, said) in both.items():
        assert f"by {backend} (asked for)" in said["describe"]
        assert said["unsloth"] == (backend == "unsloth")
        assert said["budget"]["optimizer_steps"] == 2


def test_both_store_the_same_artefacts(both):
    listed = [sorted(str(f.relative_to(run)) for f in run.rglob("*") if f.is_file()) for run,
              _ in both.values()]
    assert listed[0] == listed[1]
    assert {FILE, "budget.json", "metrics.jsonl", "student/model.safetensors"} <= set(listed[0])
    assert both["transformers"][1]["budget"] == both["unsloth"][1]["budget"]


def test_the_resolved_trainer_config_is_the_same_field_by_field(both):
    facts = [json.loads((run / FILE).read_text()) for run, _ in both.values()]
    assert differences(*[f.pop("arguments") for f in facts]) == []
    assert [f.pop("backend") for f in facts] == ["transformers", "unsloth"]
    assert [f.pop("unsloth") for f in facts] == [None, {"UNSLOTH_GRPO_SEQ_PACKING": "0",
                                                        "UNSLOTH_GRPO_PREFIX_GROUPER": "0"}]
    assert facts[0] == facts[1]


def test_rollouts_losses_and_weights_agree(both):
    weights = [load_file(run / "student" / "model.safetensors") for run, _ in both.values()]
    # Muon works in bfloat16, which magnifies rounding
    cold = both["unsloth"][1]["describe"].startswith("cold_start")
    assert all(torch.allclose(weights[0][k], weights[1][k], atol=2e-3 if cold else 1e-5)
               for k in weights[0])
    logged = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
              for run, _ in both.values()]
    for ours, theirs in zip(*logged, strict=True):
        for name in {"loss", "grad_norm", "learning_rate", "reward", "val/accuracy"} & ours.keys():
            assert theirs[name] == pytest.approx(ours[name], rel=1e-4)
    if (both["unsloth"][0] / "trajectories.parquet").exists():
        texts = [[r.trajectory.to_text() for r in load_records(run / "trajectories.parquet")]
                 for run, _ in both.values()]
        assert texts[0] == texts[1]


def test_evaluation_loads_what_unsloth_trained(both):
    student = load_student(both["unsloth"][0] / "student", BOX)
    assert type(student.model).__module__.startswith("transformers.")
    assert student.ask("What is 3 plus 4?").trajectory.turns


def test_only_the_adapters_trained_and_they_merge_to_the_stored_weights(project):
    from peft import PeftModel

    stored = project / "grpo-lora-unsloth" / "student"
    base = load_student(project / "student").model
    before = {k: v.clone() for k, v in base.state_dict().items()}
    merged = PeftModel.from_pretrained(base, stored / "adapter").merge_and_unload().state_dict()
    after = load_file(stored / "model.safetensors")
    assert all(torch.allclose(after[k], merged[k], atol=1e-6) for k in after)
    moved = {k for k in after if not torch.equal(after[k], before[k])}
    assert moved and all(k.endswith("_proj.weight") for k in moved)


def test_packing_is_a_parameter(project):
    said = child(project, "packed", "student_backend=unsloth", "method=mentor", "grpo_packing=true",
                 "steps=1",
                 "validate_every=0")
    assert said["unsloth"]
    assert json.loads((project / "packed" / FILE).read_text())["unsloth"] == {
        "UNSLOTH_GRPO_SEQ_PACKING": "1", "UNSLOTH_GRPO_PREFIX_GROUPER": "1"}


def test_what_would_be_cut_is_refused(project):
    said = child(project, "refused", "method=mentor", "student_backend=unsloth",
                 "max_seq_length=64")
    assert "raise max_seq_length to" in said["error"]


def test_vllm_without_a_gpu_is_refused(project):
    code = ("from mentor_kit.students.backends import load_model\nfrom mentor_kit.students.loading "
            "import LoadConfig\nasked = LoadConfig(finetuning='lora', fast_inference=True, "
            f"max_seq_length=512)\ntry:\n    load_model({str(project / 'student')!r}, 'unsloth', "
            "asked)\nexcept Exception as error:\n    print(type(error).__name__, error)\n")
    printed = printed_by(code)
    assert printed.startswith("UserError student") and "needs a GPU" in printed


def test_trl_before_unsloth_is_refused_with_the_way_out():
    code = ("import trl.trainer.grpo_trainer\nfrom mentor_kit.errors import UserError\n"
            "from mentor_kit.students.backends import prepare_backend\n"
            "try:\n    prepare_backend('unsloth')\nexcept UserError as error:\n    print(error)\n")
    told = "TRL is already imported in this kernel: restart the kernel and run from the top"
    assert told in printed_by(code)


def test_packing_cannot_change_once_unsloth_is_there_and_auto_needs_a_gpu():
    code = (
        "from mentor_kit.errors import UserError\nfrom mentor_kit.students.backends import "
        "prepare_backend\n"
        "print(prepare_backend('auto'))\nprint(prepare_backend('unsloth'))\nprint(prepare_backend('unsloth'))\n"
        "try:\n    prepare_backend('unsloth', grpo_packing=True)\nexcept UserError as error:\n "
        "   print(error)\n"
    )
    auto, first, second, refused = printed_by(code).splitlines()
    assert auto == "('transformers', 'no CUDA device')" or torch.cuda.is_available()
    assert first == second == "('unsloth', 'asked for')"
    assert "differs from what Unsloth was imported with" in refused


@pytest.mark.timeout(1000)
def test_the_gpu_check_runs(tmp_path):
    """On a CPU with a tiny model: every part ends, gradients agree, the table is written. Its
    speeds mean nothing."""
    command = [sys.executable, TESTS / "tools" / "gpu_check.py", "--device", "cpu", "--tiny",
               "--out", tmp_path, "--budget", "900"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=900,
                          check=False,
                          env={**os.environ, "PYTHONPATH": str(TESTS.parent)})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    result = json.loads((tmp_path / "gpu_check.json").read_text())
    assert result["left"] == [] and not any("error" in p for p in result["parts"].values())
    gradients = result["gradients"]["qwen3-0.6b-random"]
    assert set(gradients) == {"unsloth", "unsloth-packed", "trl-split"} and all(
        g["agrees"] for g in gradients.values()
    )
    assert all(p["tool_result_tokens"] > 0 for n, p in result["parts"].items() if "/gradient/" in n)
    assert "| qwen3-0.6b-random | unsloth |" in (tmp_path / "gpu_check.md").read_text()
