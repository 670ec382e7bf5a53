"""How a student is loaded for training: all parameters, LoRA, 4-bit."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mentor_kit.runs.parameters import StageConfig


class LoadConfig(StageConfig):
    """How a student is loaded for training, by either backend. The first fields of notebook 03's
    parameters.

    The paper trains all parameters. LoRA is our choice for one GPU, not a claim of the paper; its
    defaults are the vendor's recipe for Qwen3-4B: rank 32, alpha twice that, all seven projections.
    """

    finetuning: Literal["full", "lora"] = Field("full",
                                                description="full | lora (on 16-bit weights)")
    lora_rank: int = Field(32, ge=1, description="of the adapters")
    lora_alpha: int = Field(0, ge=0, description="0 is twice the rank")
    load_in_4bit: bool = Field(False, description="QLoRA: adapters on frozen 4-bit weights")
    gradient_checkpointing: bool = Field(False, description="less memory, about a third more time")
    max_seq_length: int = Field(4096, ge=64, description="tokens of prompt and completion; longer "
                                                         "is refused")
    fast_inference: bool = Field(False, description="rollouts by vLLM inside Unsloth")
    grpo_packing: bool = Field(False, description="packing and shared prefixes inside Unsloth; see "
                                                  "make gpu-check")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the computing; weights that are trained stay float32: auto (16 bit "
                            "on a GPU, float32 on a CPU) | float32 | bfloat16 (a CPU with AVX-512)")
    seed: int = Field(0, ge=0, description="of initialisation, order and sampling")

    @model_validator(mode="after")
    def _check_quantisation(self) -> LoadConfig:
        if self.load_in_4bit and self.finetuning == "full":
            raise ValueError("load_in_4bit=True trains adapters on frozen 4-bit weights: set "
                             "finetuning=lora, or load_in_4bit=False")
        return self

    @property
    def alpha(self) -> int:
        return self.lora_alpha or 2 * self.lora_rank
