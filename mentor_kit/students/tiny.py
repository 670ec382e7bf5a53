"""The embedded student: a Qwen3-architecture transformer of well under 1M parameters, made from
scratch.

Its tokenizer is a byte-level BPE (any text round-trips) trained on the study's own questions, with
digits as single tokens and the fixed parts of ChatML and of Hermes tool calls as one token each, so
that a rollout is short. Tool names stay in pieces: the student can invent names, as large models
do.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from mentor_kit.core.chat_markup import ASSISTANT, EOS
from mentor_kit.core.toolbox import Toolbox
from mentor_kit.students import torch_setup  # noqa: F401 - for its effect

PAD, IM_START = "<|endoftext|>", "<|im_start|>"
SKELETON = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>",
            '<tool_call>\n{"name": "', '", "arguments": {"', '", "arguments": {"a": ',
            '", "arguments": {"x": ',
            '", "arguments": {"numbers": [', ', "b": ', "}}\n</tool_call>", "]}}\n</tool_call>",
            "\n</tool_response>", "\n<|im_start|>user\n<tool_response>\n",
            "\n<|im_start|>assistant\n",
            "\n<|im_start|>user\n",
            "<|im_start|>system\nTools:\n", "(a, b)", "(x)", "(x, digits)", "(numbers)",
            "The answer is \\boxed{", "}.", "Put the final answer in \\boxed{}.")
PIECES = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]|\s+"


def build_tokenizer(texts: Iterable[str], vocab_size: int = 2048, max_length: int = 1024,
                    toolbox: Toolbox | None = None) -> PreTrainedTokenizerFast:
    """Train the student's tokenizer on `texts`. The same texts in the same order give the same
    tokenizer.

    Args:
        texts: questions and teacher texts of the training split.
        vocab_size: upper bound of the vocabulary; a small corpus gives fewer tokens.
        max_length: the student's context, in tokens.
        toolbox: its `words`, and the fixed parts of calls with a text argument, are one token each.
    """
    words, pieces = (toolbox.words, text_call_pieces(toolbox)) if toolbox else ((), ())
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PIECES), "isolated"),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    added = len(SKELETON) + len(pieces) + len(words) + 3
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - added, min_frequency=4,
                                  show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False)
                                  for t in (PAD, IM_START, EOS)])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False)
                          for t in (*SKELETON, *pieces)])
    tokenizer.add_tokens([AddedToken(w, special=False, normalized=False, single_word=w.isalnum())
                          for w in words])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD,
                                      padding_side="left",
                                      model_max_length=max_length,
                                      clean_up_tokenization_spaces=False)
    wrapped.chat_template = chat_template()
    return wrapped


def text_call_pieces(toolbox: Toolbox) -> tuple[str, ...]:
    """The fixed parts of calls whose first argument is a text (and what stands before the texts
    after it), and of their signatures."""
    parameters = [list(tool.parameters.items()) for tool in toolbox.tools.values()]
    first = [given[0] for given in parameters if given]
    names = dict.fromkeys(name for name, (kind, _) in first if kind is str)
    opened = [piece for n in names for piece in (f'", "arguments": {{"{n}": "', f"({n})")]
    later = dict.fromkeys(name for given in parameters for name, (kind, _) in given[1:]
                          if kind is str)
    opened += [f'", "{n}": "' for n in later]
    others = ('"}}\n</tool_call>', f"\n</tool_response>{EOS}\n{ASSISTANT}", "{'error': 'Tool ",
              " not found.'}")
    return (*opened, *others) if names else ()


def chat_template() -> str:
    """Our ChatML + Hermes template with a compact tool block (one `name(arguments)` line a
    tool)."""
    return (files("mentor_kit.students") / "chat_template.jinja").read_text(encoding="utf-8")


def build_model(tokenizer: PreTrainedTokenizerFast, *, hidden_size: int = 128, layers: int = 3,
                heads: int = 4,
                kv_heads: int = 2, ffn_size: int = 0, seed: int = 0) -> Qwen3ForCausalLM:
    """A Qwen3 model with random weights (seeded), tied embeddings, float32; `ffn_size` 0 is 5/2 of
    the width."""
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=hidden_size, num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads, head_dim=hidden_size // heads,
        intermediate_size=ffn_size or 5 * hidden_size // 2,
        max_position_embeddings=tokenizer.model_max_length, tie_word_embeddings=True,
        attention_dropout=0.0,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.05)
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(config)
