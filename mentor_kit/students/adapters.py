"""LoRA adapters of a student: which parameters train, and how trained adapters become plain
weights.

One way for both backends, as both keep peft's layers: base weight (dequantized where it is 4-bit)
plus the layer's own delta, tensor by tensor. Nothing is merged in place, so a student can go on
training after it was saved.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import torch

ADAPTER = "default"  # the trained one; TRL may add "ref", a frozen copy of its start
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ROUTERS = {"gate", "router", "shared_expert_gate"}  # of mixtures of experts: never adapted


def has_adapters(model: Any) -> bool:
    return hasattr(model, "peft_config")


def trained_parameters(model: Any) -> int:
    """How many numbers the optimizer steps."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def keep_adapters_float32(model: Any) -> None:
    """Call once the trainer exists: TRL turns the adapters of a 4-bit student to bfloat16, in which
    small steps vanish, and Unsloth does not. The parameters stay the same objects, so an optimizer
    goes on stepping them."""
    if has_adapters(model):
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.data = parameter.data.float()


def lora_targets(model: Any) -> dict[str, list[str]]:
    """What LoRA adapts: every matrix of the layers but the routers, under whatever names the
    architecture has them; experts that are stored as one parameter, too. The names are peft's."""
    linear, experts = _matrices(model)
    names = {name.rpartition(".")[2] for name in linear}
    targets = {"target_modules": list(PROJECTIONS) if names <= set(PROJECTIONS) and not experts
               else sorted(names)}
    if experts:
        targets["target_parameters"] = sorted({".".join(n.split(".")[-2:]) for n in experts})
    return targets


def left_out(model: Any) -> list[str]:
    """Names, without their layer's number, of the matrices that a model's adapters do not reach:
    peft renames some of mixtures of experts."""
    linear, experts = _matrices(model.get_base_model())
    inside = [name for name in linear if ".base_layer" not in f".{name}" and "lora_" not in name]
    bare = [name for name in experts if ".base_layer." not in name]
    return sorted({re.sub(r".*\.\d+\.", "", name) for name in inside + bare})


def _matrices(model: Any) -> tuple[list[str], list[str]]:
    """Names of the linear modules, and of the parameters that hold all experts, of the layers."""
    linear = [name for name, module in model.named_modules()
              if isinstance(module, torch.nn.Linear) and re.search(r"\.\d+\.", name)
              and name.rpartition(".")[2] not in ROUTERS]
    experts = [name for name, parameter in model.named_parameters()
               if parameter.ndim == 3 and ".experts." in name and "lora_" not in name]
    return linear, experts


@torch.no_grad()
def merged_weights(model: Any) -> dict[str, torch.Tensor]:
    """State dict of the plain model with the adapters in it, on the CPU; sums in float32, stored as
    the base is."""
    from peft.tuners.lora import LoraLayer, ParamWrapper
    from peft.utils.integrations import dequantize_module_weight

    base = model.get_base_model()
    merged = {_plain_name(name): tensor for name, tensor in base.state_dict().items()}
    for name, layer in base.named_modules():
        if isinstance(layer, LoraLayer) and ADAPTER in layer.lora_A:
            experts = isinstance(layer, ParamWrapper)
            weight = (layer.get_param() if experts
                      else dequantize_module_weight(layer.get_base_layer()))
            total = weight.float() + layer.get_delta_weight(ADAPTER).to(weight.device,
                                                                        torch.float32)
            inner = layer.parameter_name if experts else "weight"
            merged[_plain_name(f"{name}.{inner}")] = total.to(weight.dtype)
    plain = _plain_model(base).state_dict()
    return {name: merged[name].detach().cpu() for name in plain}


def _plain_name(name: str) -> str:
    return re.sub(r"(\.base_layer)+\.", ".", name)


def save_merged(model: Any, folder: Path) -> None:
    """Write a folder that `transformers` loads without peft."""
    shell = _plain_model(model.get_base_model())
    shell.generation_config = copy.deepcopy(model.generation_config)
    shell.save_pretrained(folder, state_dict=merged_weights(model))


def save_adapter(model: Any, folder: Path, source: str) -> None:
    """Write the adapters as peft loads them, onto `source`, the student they were trained on."""
    config = model.peft_config[ADAPTER]
    config.base_model_name_or_path = source
    # peft keeps a set, whose order differs by process
    config.target_modules = sorted(config.target_modules)
    if config.target_parameters:
        config.target_parameters = sorted(config.target_parameters)
    model.save_pretrained(folder, selected_adapters=[ADAPTER])
    # peft's empty form; the student's folder has our card
    (folder / "README.md").unlink(missing_ok=True)


def _plain_model(base: Any) -> Any:
    """The same architecture without adapters, quantization or storage: it knows the names and what
    is tied."""
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(base.config)
    config.__dict__.pop("quantization_config", None)
    config.use_cache = True
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=base.dtype)
