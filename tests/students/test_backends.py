"""Backends without Unsloth installed: who is chosen and why, LoRA, merged weights, templates, the
trainer's config."""

from __future__ import annotations

import json
import os

import pytest
import torch
import trl.chat_template_utils as trl_templates
from other_process import printed_by
from safetensors.torch import load_file
from small_student import BOX, new_run, teacher_records, untrained
from transformers import AutoModelForCausalLM
from trl import SFTConfig

from mentor_kit.collection.collection import Collection
from mentor_kit.core.records import Record
from mentor_kit.errors import UserError
from mentor_kit.runs.parameters import configure
from mentor_kit.students.adapters import keep_adapters_float32, merged_weights, trained_parameters
from mentor_kit.students.backends import (
    _unsloth_options,
    backend_for,
    half_precision,
    load_model,
    resolve_backend,
)
from mentor_kit.students.formats import call_format
from mentor_kit.students.loading import LoadConfig
from mentor_kit.students.student import give_template, load_student, prepare_tokenizer
from mentor_kit.students.tiny import build_tokenizer, chat_template
from mentor_kit.training import stage
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.trainer_config import FILE, changed, exactly

pytestmark = pytest.mark.numeric
RECORDS = teacher_records(8)
LORA = LoadConfig(finetuning="lora", lora_rank=4, seed=1)
SMALL = {"method": "mentor", "start_run": "none", "finetuning": "lora", "lora_rank": 4, "steps": 2,
         "prompts_per_step": 2, "group_size": 4, "micro_batch": 4, "max_new_tokens": 32,
         "max_seq_length": 512,
         "validate_every": 2,
         "validation_items": 2, "save_every": 2, "learning_rate": 1e-2, "temperature": 0.6,
         "top_k": 20, "top_p": 0.99,
         "kl_beta": 0.001, "entropy_coef": 0.001, "delta": 3.0, "warmup_steps": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return untrained(RECORDS, width=32, layers=2).save(
        tmp_path_factory.mktemp("student") / "tiny-qwen3"
    )


@pytest.fixture(scope="module")
def lessons():
    rows = RECORDS + teacher_records(3, "validation")
    collection = Collection(tuple(Record(r.problem, r.trajectory) for r in rows))
    return stage.load_training_data(collection, configure(TrainConfig, **SMALL))


@pytest.fixture(scope="module")
def run(folder, lessons, tmp_path_factory):
    """A finished LoRA run with the released sampling, KL and entropy on plain transformers."""
    config = configure(TrainConfig, **SMALL, student_source=str(folder))
    made = new_run(tmp_path_factory.mktemp("lora") / "run")
    stage.train(config, stage.make_student(config, lessons, None), lessons, made)
    return made


def test_auto_says_what_it_chose_and_why(monkeypatch):
    assert resolve_backend("auto") == ("transformers", "no CUDA device")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla P100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (6, 0))
    assert resolve_backend("auto") == ("transformers", "Tesla P100 is too old for Unsloth")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr("mentor_kit.students.backends._installed", lambda name: True)
    monkeypatch.setattr("mentor_kit.students.backends._trl_came_first", lambda: True)
    monkeypatch.setattr("mentor_kit.students.backends._installed", lambda name: name == "unsloth")
    assert resolve_backend("auto") == ("transformers",
                                       "bitsandbytes is not installed, and unsloth needs it")
    with pytest.raises(UserError, match="needs the package bitsandbytes on a GPU"):
        resolve_backend("unsloth")
    monkeypatch.setattr("mentor_kit.students.backends._installed", lambda name: True)
    assert resolve_backend("auto")[1].startswith("TRL is already imported")
    monkeypatch.setattr("mentor_kit.students.backends._trl_came_first", lambda: False)
    assert resolve_backend("auto") == ("unsloth", "a supported GPU and unsloth are there")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert resolve_backend("auto") == ("transformers", "several processes: plain TRL distributes")


def test_a_notebook_loads_as_its_child_processes_will(folder, lessons, monkeypatch):
    monkeypatch.setattr("mentor_kit.students.backends._against_unsloth", lambda: "")
    config = configure(TrainConfig, **SMALL | {"micro_batch": 2}, student_source=str(folder),
                       num_processes=2)
    assert stage.make_student(config, lessons, None).origin.backend == "transformers"


def test_evaluation_does_not_depend_on_what_is_installed(monkeypatch):
    monkeypatch.setattr("mentor_kit.students.backends._against_unsloth", lambda: "")
    assert resolve_backend("auto")[0] == "unsloth"
    assert backend_for("auto", None) == ("transformers", "evaluation is the same everywhere")
    assert backend_for("auto", LORA)[0] == "unsloth"


def test_unsloth_asked_for_and_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr("mentor_kit.students.backends._installed", lambda name: False)
    with pytest.raises(UserError, match=r"needs the package unsloth: install the gpu extra"):
        resolve_backend("unsloth")


def test_the_stage_chooses_a_backend_before_anything_imports_trl():
    code = ("import sys\nfrom mentor_kit.training import stage\nimport "
            "mentor_kit.students.backends\nprint([m for m in ('transformers', 'trl', 'peft') if m "
            "in sys.modules])")
    assert printed_by(code) == "[]"


def test_lora_trains_adapters_alone_from_a_seed(folder):
    model, _ = load_model(str(folder), "transformers", LORA)
    again, other = (load_model(str(folder), loading=asked)[0]
                    for asked in (LORA, LoadConfig(finetuning="lora", lora_rank=4, seed=2)))
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    # A and B, seven projections, two layers
    assert all("lora_" in n for n in trained) and len(trained) == 2 * 7 * 2
    assert (
        model.peft_config["default"].lora_alpha == 8
        and model.peft_config["default"].lora_dropout == 0
    )
    names = [n for n in trained if "lora_A" in n]
    assert all(torch.equal(trained[n], dict(again.named_parameters())[n]) for n in names)
    assert not any(torch.equal(trained[n], dict(other.named_parameters())[n]) for n in names)
    assert trained_parameters(model) == sum(p.numel() for p in trained.values())


def test_adapters_that_the_trainer_turned_to_bfloat16_are_stepped_in_float32(folder):
    model, _ = load_model(str(folder), "transformers", LORA)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-6)
    for parameter in trained:
        # as TRL does where the base is 4-bit
        parameter.data = torch.ones_like(parameter).bfloat16()
    keep_adapters_float32(model)
    for parameter in trained:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all(p.dtype == torch.float32 and (p < 1).all() for p in trained)


def test_merged_weights_are_the_base_plus_the_product_of_the_adapters(folder):
    model, _ = load_model(str(folder), loading=LORA)
    layer = model.get_base_model().model.layers[1].mlp.down_proj
    with torch.no_grad():
        layer.lora_B["default"].weight.fill_(0.5)
    base = layer.base_layer.weight.clone()
    merged = merged_weights(model)
    # alpha/rank x B x A
    by_hand = base + (8 / 4) * 0.5 * layer.lora_A["default"].weight.sum(0, keepdim=True)
    assert torch.allclose(merged["model.layers.1.mlp.down_proj.weight"], by_hand, atol=1e-6)
    assert torch.equal(layer.base_layer.weight, base)  # nothing was merged in place
    assert merged.keys() == AutoModelForCausalLM.from_pretrained(folder).state_dict().keys()


def test_a_lora_run_stores_adapters_and_a_merged_student(run, folder):
    stored = run.dir / "student"
    assert (stored / "adapter" / "adapter_model.safetensors").is_file()
    config = json.loads((stored / "adapter" / "adapter_config.json").read_text())
    assert (
        config["target_modules"] == sorted(config["target_modules"])
        and len(config["target_modules"]) == 7
    )
    before, after = load_file(folder / "model.safetensors"), load_file(stored / "model.safetensors")
    moved = {k for k in after if not torch.equal(after[k], before[k])}
    assert moved and all(k.endswith("_proj.weight") for k in moved)
    student = load_student(stored, BOX)
    assert (
        not hasattr(student.model, "peft_config") and student.rollout([RECORDS[0].problem])[0].turns
    )


def test_the_resolved_trainer_config_is_stored_without_host_facts(run):
    text = (run.dir / FILE).read_text()
    facts = json.loads(text)
    asked = {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.2, "delta": 3.0, "beta": 0.001,
             "entropy_coef": 0.001, "mask_truncated_completions": False,
             "use_bias_correction_kl": False,
             "temperature": 0.6, "top_k": 20,
             "top_p": 0.99, "optim": "adamw_torch", "learning_rate": 1e-2, "warmup_steps": 1,
             "weight_decay": 0.01,
             "lr_scheduler_type": "constant_with_warmup", "steps_per_generation": 1,
             "gradient_accumulation_steps": 1,
             "per_device_train_batch_size": 8, "num_generations": 4, "seed": 0,
             "scale_rewards": "group"}
    assert asked.items() <= facts["arguments"].items()
    assert (facts["trainer"], facts["rollout_engine"], facts["shared_prompts"]) == (
        "SharedPromptTrainer",
        "kit",
        True,
    )
    assert json.loads((run.dir / "manifest.json").read_text())["training"] == {
        "call_format": "hermes", "rollout_engine": "kit", "shared_prompts": True}
    assert (
        facts["backend"] == "transformers"
        and facts["loading"]["finetuning"] == "lora"
        and facts["unsloth"] is None
    )
    assert facts["trained_parameters"] < facts["parameters"] and facts["dtype"] == "float32"
    assert str(run.dir.parent) not in text and os.uname().nodename not in text


def test_what_a_config_class_overrides_is_set_back_and_seen():
    from trl import GRPOConfig

    class Opinionated(GRPOConfig):
        def __init__(self, **asked):
            super().__init__(**{**asked, "epsilon_high": 0.28, "mask_truncated_completions": True})

    asked = {"output_dir": "x", "loss_type": "dapo", "epsilon_high": 0.2,
             "mask_truncated_completions": False,
             "report_to": "none", "use_cpu": True, "bf16": False, "lr_scheduler_type": "constant"}
    assert changed(Opinionated(**asked), asked) == ["epsilon_high", "mask_truncated_completions"]
    assert changed(exactly(Opinionated, asked), asked) == []


@pytest.mark.parametrize(("settings", "reason"), [
    ({"load_in_4bit": True}, "set finetuning=lora"),
    ({"finetuning": "some"}, "finetuning='some'.*'full' or 'lora'"),
    ({"lora_rank": 0}, "lora_rank=0.*greater than or equal to 1")])
def test_loadings_that_do_not_fit_are_refused(settings, reason):
    with pytest.raises(UserError, match=reason):
        configure(LoadConfig, **settings)


def test_auto_finetuning_is_full_for_the_embedded_student_and_lora_for_others():
    config = configure(TrainConfig)
    assert config.loading(embedded=True).finetuning == "full"
    assert config.loading(embedded=False).finetuning == "lora"
    with pytest.raises(UserError, match="set finetuning=lora"):
        configure(TrainConfig, load_in_4bit=True)


def test_a_gpu_before_ampere_trains_in_float16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))  # a T4
    assert half_precision() == torch.float16
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert half_precision() == torch.bfloat16


def test_four_bit_and_vllm_name_what_they_need(folder, monkeypatch):
    monkeypatch.setattr("mentor_kit.students.backends._installed", lambda name: False)
    with pytest.raises(UserError, match="needs the package bitsandbytes"):
        load_model(str(folder), loading=LoadConfig(finetuning="lora", load_in_4bit=True))
    with pytest.raises(UserError, match="needs the package bitsandbytes"):
        _unsloth_options(str(folder), LoadConfig(finetuning="lora", load_in_4bit=True))
    with pytest.raises(UserError, match="is Unsloth's: set student_backend=unsloth"):
        load_model(str(folder), loading=LoadConfig(finetuning="lora", fast_inference=True))


def test_unsloth_is_asked_for_the_weights_and_positions_that_were_named(folder):
    options = _unsloth_options(str(folder), LoadConfig(finetuning="lora", max_seq_length=512))
    assert (
        options["use_exact_model_name"]
        and options["max_seq_length"] == 512
        and not options["offload_embedding"]
    )
    saved = _unsloth_options(str(folder), None)
    # the student's, of Loading's 4096
    assert saved["dtype"] == torch.float32 and saved["max_seq_length"] == 1024
    with pytest.raises(UserError, match="above the 1024 positions .* set max_seq_length=1024 or "
                                        "less"):
        _unsloth_options(str(folder), LoadConfig(finetuning="lora", max_seq_length=4096))


def test_one_process_is_one_gpu_however_many_it_sees(tmp_path):
    class Config(SFTConfig):
        @property
        def n_gpu(self) -> int:
            return 1 if self._n_gpu == 1 else 4  # as a machine with four GPUs counts them

    config = exactly(Config,
                     {"output_dir": str(tmp_path), "use_cpu": True,
                      "per_device_train_batch_size": 2})
    assert config.n_gpu == 1 and config.train_batch_size == 2


def test_a_stored_tokenizer_pads_on_the_left_whatever_a_trainer_did(folder, tmp_path):
    student = load_student(folder, BOX)
    student.tokenizer.padding_side = "right"
    stored = json.loads((student.save(tmp_path / "again") / "tokenizer_config.json").read_text())
    assert stored["padding_side"] == "left"


def test_a_lesson_that_would_be_cut_is_refused(folder, lessons):
    config = configure(TrainConfig, **SMALL | {"max_seq_length": 100}, student_source=str(folder))
    with pytest.raises(UserError, match="raise max_seq_length to"):
        stage.make_student(config, lessons, None)
    config = configure(TrainConfig, **SMALL | {"max_seq_length": 4096, "max_new_tokens": 1000},
                       student_source=str(folder))
    with pytest.raises(UserError, match="above the 1024 positions that the student can read: lower "
                                        "max_new_tokens"):
        stage.make_student(config, lessons, None)


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "qwen3_instruct_2507"])
def test_templates_of_qwen_are_taken_as_they_are(name):
    tokenizer = build_tokenizer(["a"])
    tokenizer.chat_template = getattr(trl_templates, f"{name}_chat_template")
    prepare_tokenizer(tokenizer)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False)
    assert tokenizer.response_template and text.endswith("?<|im_end|>\n")
    assert call_format(tokenizer).name == "hermes"


@pytest.mark.parametrize(("template", "reason"), [
    (trl_templates.llama3_1_chat_template, "does not end turns with a token of the vocabulary"),
    (trl_templates.phi3_chat_template, "does not know"),
    (trl_templates.deepseek_r1_distill_chat_template, "does not render tool calls"),
    ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor "
     "%}<|im_start|>assistant\n",
     "TRL does not know this student's chat template")])
def test_other_templates_are_refused_with_the_way_out_and_ours_is_taken(template, reason):
    tokenizer = build_tokenizer(["a"])
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=f"(?s)({reason}).*student_template=kit"):
        prepare_tokenizer(tokenizer)
        call_format(tokenizer)
    give_template(tokenizer)
    prepare_tokenizer(tokenizer)
    assert tokenizer.chat_template == chat_template() and call_format(tokenizer).name == "hermes"


def test_padding_is_told_from_an_end_of_turn():
    tokenizer = build_tokenizer(["a"])
    tokenizer.pad_token = tokenizer.eos_token  # as SmolLM2's comes
    prepare_tokenizer(tokenizer)
    assert tokenizer.pad_token == "<|endoftext|>"
