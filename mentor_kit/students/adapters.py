"""LoRA adapters of a student: which parameters train, and how trained adapters become plain
weights.

One way for both backends, as both keep peft's layers: base weight (dequantized where it is 4-bit)
plus the layer's own delta, tensor by tensor. Nothing is merged in place, so a student can go on
training after it was saved.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

ADAPTER = "default"  # the trained one; TRL may add "ref", a frozen copy of its start


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


@torch.no_grad()
def merged_weights(model: Any) -> dict[str, torch.Tensor]:
    """State dict of the plain model with the adapters in it, on the CPU; sums in float32, stored as
    the base is."""
    from peft.tuners.lora import LoraLayer
    from peft.utils.integrations import dequantize_module_weight

    base = model.get_base_model()
    merged = {name.replace(".base_layer.", "."): tensor for name,
              tensor in base.state_dict().items()}
    for name, layer in base.named_modules():
        if isinstance(layer, LoraLayer) and ADAPTER in layer.lora_A:
            weight = dequantize_module_weight(layer.get_base_layer())
            total = weight.float() + layer.get_delta_weight(ADAPTER).to(weight.device,
                                                                        torch.float32)
            merged[f"{name}.weight"] = total.to(weight.dtype)
    plain = _plain_model(base).state_dict()
    return {name: merged[name].detach().cpu() for name in plain}


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
