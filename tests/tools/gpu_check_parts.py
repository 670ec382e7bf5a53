"""What `make gpu-check` measures, one part a process (Unsloth rewrites the process it is imported
into).

    python tests/tools/gpu_check_parts.py PART WORK_FOLDER '{"student": ..., "backend": ..., "packing": ..., "tiny": ...}'

Each part prints one JSON object as its last line. The parent, tests/tools/gpu_check.py, says what
the parts are for.
"""  # noqa: E501

from __future__ import annotations

import dataclasses
import gc
import inspect
import json
import sys
import time
import zlib
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from mentor_kit.collection.collect import attempt
from mentor_kit.collection.collection import Collection
from mentor_kit.core.records import Record
from mentor_kit.problems import load_problems
from mentor_kit.rewards import load_reward
from mentor_kit.runs.open import init_run
from mentor_kit.runs.parameters import configure
from mentor_kit.teachers import load_teacher
from mentor_kit.teachers.imperfect import with_habits
from mentor_kit.training import stage
from mentor_kit.training.config import TrainConfig

STORIES = {"train": 256, "validation": 8}


@dataclass(frozen=True)
class Sizes:
    """How large the check is: for a GPU, or to see on a CPU that it runs."""

    hidden: int = 1024  # Qwen3-0.6B's shape
    layers: int = 28
    heads: int = 16
    kv_heads: int = 8
    head_dim: int = 128
    ffn: int = 3072
    vocabulary: int = 151936
    lessons: int = 256
    taught_steps: int = 150
    taught_batch: int = 64
    steps: int = 20
    prompts: int = 8
    group: int = 8
    micro: int = 32
    tokens: int = 192


TINY = Sizes(64, 2, 4, 2, 16, 128, 1200, 12, 2, 6, 2, 2, 4, 4, 40)


def lessons(sizes: Sizes) -> stage.TrainingData:
    """Teacher trajectories of short arithmetic stories, all with tool calls."""
    teacher = load_teacher("worked_solution")
    problems = load_problems("arithmetic_stories", 0, {**STORIES, "train": sizes.lessons})
    records = [r for r in (attempt(p, teacher) for p in problems) if r.trajectory.meta["accepted"]]
    return stage.load_training_data(Collection(tuple(Record(r.problem, r.trajectory)
                                                  for r in records)),
                                 configure(TrainConfig, method="sft"))


def config(case: dict[str, Any], work: Path, sizes: Sizes, **changes: Any) -> TrainConfig:
    """GRPO with LoRA as a user would ask for it, by `student_backend` alone on either backend; what
    is compared is TRL's own sampling and update."""
    asked = {"method": "mentor", "start_run": "none", "student_source": str(work / case["student"]),
             "student_backend": case["backend"], "grpo_packing": case.get("packing", False),
             "finetuning": "lora",
             "lora_rank": 8 if sizes is TINY else 32, "steps": sizes.steps,
             "prompts_per_step": sizes.prompts,
             "group_size": sizes.group, "micro_batch": sizes.micro // case.get("split", 1),
             "learning_rate": 1e-5,
             "max_new_tokens": sizes.tokens, "max_seq_length": 1024, "validate_every": 0,
             "save_every": 0,
             "rollout_engine": "trl", "shared_prompts": False, "collapse_patience": 0,
             "temperature": 1.0, "top_k": 20, "max_grad_norm": 1e9}
    return configure(TrainConfig, **asked | changes)


def part_patch(work: Path, case: dict[str, Any], sizes: Sizes) -> dict[str, Any]:
    """Import Unsloth as we do, and say what it put in place of TRL's classes and of their
    defaults."""
    from mentor_kit.students.backends import prepare_backend

    prepare_backend("unsloth", grpo_packing=case.get("packing", False))
    import trl
    import unsloth

    defaults = {}
    for name in ("GRPOConfig", "SFTConfig"):
        patched = getattr(trl, name)
        plain = next(c for c in patched.__mro__[::-1] if c.__name__.endswith(name)
                     and dataclasses.is_dataclass(c))
        ours = {f.name: f.default for f in dataclasses.fields(plain)}
        theirs = _initial(patched)
        defaults[name] = {n: [str(ours[n]), str(v)] for n, v in sorted(theirs.items()) if n in ours
                          and v != ours[n]}
    return {"unsloth": unsloth.__version__, "device": unsloth.DEVICE_TYPE,
            "trainer": trl.GRPOTrainer.__name__,
            "sft_trainer": trl.SFTTrainer.__name__, "changed_defaults": defaults}


def _initial(patched: type) -> dict[str, Any]:
    found = {n: p.default for n, p in inspect.signature(patched.__init__).parameters.items()}
    return {n: v for n, v in found.items()
            if v is not inspect.Parameter.empty
            and not isinstance(v, dataclasses._HAS_DEFAULT_FACTORY_CLASS)}


def part_student(work: Path, case: dict[str, Any], sizes: Sizes) -> dict[str, Any]:
    """Make a student and teach it by SFT on all its parameters, so that its rollouts hold calls and
    tool results."""
    from mentor_kit.students.student import load_student

    began = time.perf_counter()
    raw = work / f"{case['student']}-raw"
    taught = lessons(sizes)
    if not raw.is_dir():
        _from_gguf(case["gguf"], raw) if case.get("gguf") else _random_student(taught, sizes, raw)
    asked = config(case, work, sizes, method="sft", student_source=str(raw), finetuning="full",
                   steps=sizes.taught_steps, sft_batch=sizes.taught_batch, sft_learning_rate=3e-4)
    run = init_run(work / f"teach-{case['student']}", stage="train", params=asked.model_dump())
    student = stage.make_student(asked, taught, None)
    stage.train(asked, student, taught, run)
    (run.dir / "student").rename(work / case["student"])
    losses = [m["loss"] for m in run.metrics() if "loss" in m]
    size = sum(p.numel() for p in load_student(work / case["student"]).model.parameters())
    return {"parameters": size, "first_loss": losses[0], "last_loss": losses[-1],
            "seconds": time.perf_counter() - began}


def _from_gguf(file: str, folder: Path) -> None:
    from mentor_kit.students.gguf import convert_gguf

    convert_gguf(file, folder)


def _random_student(taught: stage.TrainingData, sizes: Sizes, folder: Path) -> None:
    """Random weights in Qwen3-0.6B's shape with our tokenizer; unused tokens fill its vocabulary up
    to Qwen's."""
    import torch
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    from mentor_kit.core.chat_markup import EOS
    from mentor_kit.core.toolbox import load_toolbox
    from mentor_kit.students.student import Student
    from mentor_kit.students.tiny import PAD, build_tokenizer, chat_template

    texts = [t for r in taught.train for t in (r.problem.question, r.trajectory.to_text())]
    small = build_tokenizer(texts * 3, 800)
    content = json.loads(small.backend_tokenizer.to_str())
    content["model"]["vocab"] |= {f"<unused{i}>": i for i in range(len(small), sizes.vocabulary)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)),
                                        eos_token=EOS,
                                        pad_token=PAD, padding_side="left", model_max_length=4096,
                                        clean_up_tokenization_spaces=False)
    tokenizer.chat_template = chat_template()
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=sizes.vocabulary, hidden_size=sizes.hidden, num_hidden_layers=sizes.layers,
        head_dim=sizes.head_dim,
        num_attention_heads=sizes.heads, num_key_value_heads=sizes.kv_heads,
        intermediate_size=sizes.ffn,
        max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id))
    Student(model, tokenizer, load_toolbox("arithmetic")).save(folder)


def part_gradient(work: Path, case: dict[str, Any], sizes: Sizes) -> dict[str, Any]:
    """The LoRA gradient of one GRPO update on stored rollouts with tool results, through the
    trainer itself."""
    from safetensors.torch import save_file
    from transformers import TrainerCallback

    class Catch(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None,
                                  **kwargs: Any) -> None:
            found = {n: p.grad.detach().float().cpu() for n, p in model.named_parameters()
                     if p.grad is not None}
            save_file(found, work / f"gradient-{case['name']}.safetensors")

    # every term of the loss
    trainer, run = _trainer(work, case, sizes, steps=1, kl_beta=0.05, entropy_coef=0.01)
    masked = _replay(trainer, stored_rollouts(work, case, sizes, trainer.processing_class))
    _move_adapters(trainer.model)
    trainer.add_callback(Catch())
    trainer.train()
    logged = next(m for m in run.metrics() if "loss" in m)
    return {"loss": logged["loss"], "grad_norm": logged["grad_norm"], "tool_result_tokens": masked,
            "precision": {"bf16": trainer.args.bf16, "weights": str(trainer.model.dtype)}}


def part_update(work: Path, case: dict[str, Any], sizes: Sizes) -> dict[str, Any]:
    """The update alone: the same stored rollouts on either backend, so the same work."""
    trainer, run = _trainer(work, case, sizes, steps=min(sizes.steps, 8))
    rollouts = stored_rollouts(work, case, sizes, trainer.processing_class)
    _replay(trainer, rollouts)
    return _timed(trainer, run) | {"tokens_a_step": sum(len(r["prompt"]) + len(r["ids"])
                                                        for r in rollouts)}


def part_steps(work: Path, case: dict[str, Any], sizes: Sizes) -> dict[str, Any]:
    """GRPO with tools, sampling included."""
    trainer, run = _trainer(work, case, sizes)
    facts = _timed(trainer, run)
    logged = [m for m in run.metrics() if "loss" in m]
    tokens = [b["num_tokens"] - a["num_tokens"] for a, b in pairwise(logged)]
    return facts | {"tokens_a_step": sum(tokens) / max(1, len(tokens)),
                    "rewards": [m["reward"] for m in logged],
                    "executed_calls": [m["executed_calls"] for m in logged],
                    "completion_tokens": [m["completions/mean_length"] for m in logged]}


def _trainer(work: Path, case: dict[str, Any], sizes: Sizes, **changes: Any) -> tuple[Any, Any]:
    """Our own trainer on the case's student; nothing has run."""
    asked = config(case, work, sizes, **changes)
    taught = lessons(sizes)
    run = init_run(work / f"run-{case['name']}", stage="train", params=asked.model_dump())
    student = stage.make_student(asked, taught, None)

    from mentor_kit.training.callback import RunCallback
    from mentor_kit.training.checkpoints import tiled_order
    from mentor_kit.training.grpo import grpo_trainer
    from mentor_kit.training.reward_function import RewardFunction

    order = tiled_order(len(taught.train), asked.steps * asked.prompts_per_step, 0)
    reward = load_reward(uneven) if case.get("replayed") else load_reward("mentor")
    reward_function = RewardFunction(student.format, taught.train, reward, run, "student")
    callback = RunCallback(run, student, [], asked)
    return grpo_trainer(student, order, reward_function, asked, run, callback), run


def uneven(problem: Any, reference: Any, student: Any) -> float:
    """A reward that differs between the rollouts of a group and is the same everywhere."""
    return zlib.crc32(student.to_text().encode()) % 1000 / 1000


def stored_rollouts(
    work: Path, case: dict[str, Any], sizes: Sizes, tokenizer: Any
) -> list[dict[str, list[int]]]:
    """One step's rollouts: teacher trajectories with seeded habits, their token ids, and 0 on tool
    results."""
    from mentor_kit.students.student import load_student

    student, rollouts = load_student(work / case["student"]), []
    for record in lessons(sizes).train[:sizes.prompts]:
        prompt = student.prompt_ids(record.problem.question)
        for sample in range(sizes.group):
            written = with_habits(record.trajectory, record.problem, Random(sample),
                                  probability=0.15 * sample,
                                  max_turns=9)
            encoded = student.encode(record.problem.question, written)
            rollouts.append({"prompt": prompt, "ids": encoded["input_ids"][len(prompt):],
                             "mask": encoded["assistant_masks"][len(prompt):]})
    return rollouts


def _replay(trainer: Any, rollouts: list[dict[str, list[int]]]) -> int:
    """Let the trainer take these instead of sampling; returns how many tool-result tokens they
    hold."""
    def stored(prompts: Any, trainer: Any) -> dict[str, Any]:
        assert len(prompts) == len(rollouts), (len(prompts), len(rollouts))
        return {"prompt_ids": [r["prompt"] for r in rollouts],
                "completion_ids": [r["ids"] for r in rollouts],
                "logprobs": None, "env_mask": [r["mask"] for r in rollouts]}

    trainer.rollout_func, trainer.tools = stored, []
    return sum(r["mask"].count(0) for r in rollouts)


def _move_adapters(model: Any) -> None:
    """Seeded values in B, which starts at zero and would hide the gradient of A. Not in TRL's `ref`
    adapter: it is the reference of the KL term, and Unsloth takes the base without adapters."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B.default" in name:
                noise = torch.randn(
                    parameter.shape,
                    generator=torch.Generator().manual_seed(zlib.crc32(name.encode())),
                )
                parameter.copy_(0.02 * noise)


def _timed(trainer: Any, run: Any) -> dict[str, Any]:
    """Train; seconds of each step but the first two (compiling), and the most memory held."""
    import torch

    gc.collect()
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    trainer.train()
    lines = [json.loads(line) for line in (run.dir / "timing.jsonl").read_text().splitlines()]
    seconds = [line["seconds"] for line in lines if line["name"] == "step"]
    return {"steps": len(seconds), "step_seconds": seconds, "first_two_seconds": sum(seconds[:2]),
            "median_step_seconds": sorted(seconds[2:] or seconds)[len(seconds[2:] or seconds) // 2],
            "peak_allocated_gib": torch.cuda.max_memory_allocated() / 2**30 if cuda else None,
            "peak_reserved_gib": torch.cuda.max_memory_reserved() / 2**30 if cuda else None}


def main(part: str, work: str, case: str) -> None:
    asked = json.loads(case)
    sizes = TINY if asked.get("tiny") else replace(Sizes(), **asked.get("sizes", {}))
    print(json.dumps(globals()[f"part_{part}"](Path(work), asked, sizes)))


if __name__ == "__main__":
    main(*sys.argv[1:])
