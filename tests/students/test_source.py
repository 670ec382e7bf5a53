"""What a student is loaded from: folders that are not whole are refused with names, whole ones of
any shape are taken, and LoRA reaches every matrix."""

from __future__ import annotations

import jinja2
import pytest
import torch
from odd_folders import (
    ODD,
    SIZES,
    TOKENIZER,
    WEIGHTS,
    change_config,
    change_weights,
    model_folder,
    rename_weights,
)
from peft import PeftModel

from mentor_kit.errors import UserError
from mentor_kit.students.adapters import left_out
from mentor_kit.students.loading import LoadConfig
from mentor_kit.students.student import load_student

Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
PREFIXES = ("_orig_mod.", "base_model.model.", "module.", "base_model.", "transformer.",
            "policy.", "_forward_module.", "actor.")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_weights_under_another_prefix_are_refused_with_their_names(tmp_path, prefix):
    folder = rename_weights(model_folder(tmp_path / "x"), lambda name: prefix + name)
    with pytest.raises(UserError, match=r"lacks 15 of its model's weights, which would be random: "
                                        rf"lm_head\.weight.*it has {prefix}lm_head"):
        load_student(folder)


def _without(*parts):
    return lambda weights: {n: w for n, w in weights.items() if not any(p in n for p in parts)}


def _with_nan(weights):
    weights[Q_PROJ][0, 0] = float("nan")
    return weights


@pytest.mark.parametrize(("damage", "message"), [
    (lambda f: rename_weights(f, lambda n: n.replace("_proj.w", "_proj.base_layer.w")), "lacks 7"),
    (lambda f: rename_weights(f, lambda n: n.replace("q_proj", "query")), "lacks 2.*query"),
    (lambda f: change_weights(f, _without("lm_head")), r"lacks 1.*random: lm_head\.weight"),
    (lambda f: change_weights(f, _without("q_proj")), "lacks 2.*q_proj"),
    (lambda f: change_weights(f, _with_nan), rf"not finite numbers.*: {Q_PROJ}\."),
    (lambda f: change_config(f, model_type="llama"), "3 weights that its model does not.*bias"),
    (lambda f: change_config(f, hidden_size=64), r"another shape.*\[\d+, 32\], not \[\d+, 64\]"),
    (lambda f: (f / "tokenizer.json").unlink(), "its vocabulary is missing"),
    (lambda f: (f / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\n"), "git-lfs"),
    (lambda f: (f / WEIGHTS).write_bytes(b""), "has 0 bytes"),
    (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:9000]), "is damaged or of"),
    (lambda f: (f / "adapter_config.json").write_text("{}"), "holds adapters beside its model"),
], ids=["base_layer", "query", "no head", "no projection", "nan", "type", "shape", "no tokenizer",
        "git-lfs", "empty", "cut", "adapters"])
def test_a_folder_that_is_not_all_of_one_model_is_refused(tmp_path, damage, message):
    folder = model_folder(tmp_path / "x")
    damage(folder)
    with pytest.raises(UserError, match=f"(?s){message}"):
        load_student(folder)


@pytest.mark.parametrize("config", [{}, {"tie_word_embeddings": True},
                                    {"vocab_size": len(TOKENIZER) + 300}],
                         ids=["plain", "tied", "spare embeddings"])
def test_whole_folders_are_taken(tmp_path, config):
    student = load_student(model_folder(tmp_path / "x", **config))
    assert student.ask("What is 3 plus 4?", batch_size=1).trajectory.turns


def test_an_extra_value_head_is_no_matter_and_extra_layers_are(tmp_path):
    extra = {"v_head.summary.weight": torch.zeros(1, 32)}
    load_student(change_weights(model_folder(tmp_path / "value"), lambda w: w | extra))
    folder = change_config(model_folder(tmp_path / "deep", num_hidden_layers=2),
                           num_hidden_layers=1, layer_types=["full_attention"])
    with pytest.raises(UserError, match="12 weights that its model does not read: model.layers.1"):
        load_student(folder)


def test_a_vocabulary_beyond_the_embeddings_is_refused(tmp_path):
    folder = model_folder(tmp_path / "x", vocab_size=SIZES["vocab_size"] - 2)
    with pytest.raises(UserError, match="2 tokens beyond the"):
        load_student(folder)


def test_a_path_is_found_from_the_project_and_from_home(tmp_path, monkeypatch):
    model_folder(tmp_path / "models" / "x")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("models/x", "~/models/x"):
        assert load_student(path).name == "x"


@pytest.mark.parametrize("name", ODD)
def test_lora_reaches_every_matrix_of_an_architecture_and_is_saved_merged(tmp_path, name):
    folder = model_folder(tmp_path / "in", name, **ODD[name])
    student = load_student(folder, loading=LoadConfig(finetuning="lora", lora_rank=2))
    assert left_out(student.model) == []
    for parameter in (p for n, p in student.model.named_parameters() if "lora_B" in n):
        torch.nn.init.normal_(parameter, std=0.1)
    ids = torch.tensor([TOKENIZER("Ann has 12 apples")["input_ids"]])
    with torch.no_grad():
        scores = student.model.eval()(ids).logits
        student.save(tmp_path / "out")
        merged = load_student(tmp_path / "out").model.eval()(ids).logits
        plain = load_student(folder).model.eval()
        assert (plain(ids).logits - scores).abs().max() > 0.01
        adapted = PeftModel.from_pretrained(plain, str(tmp_path / "out" / "adapter"))(ids).logits
    torch.testing.assert_close(merged, scores, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(adapted, scores, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("tag", [True, False], ids=["tagged", "ours"])
def test_a_saved_template_is_plain_jinja(tmp_path, tag):
    student = load_student(model_folder(tmp_path / "in"))
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "yes"}]
    text = student.tokenizer.apply_chat_template(messages, tokenize=False)
    if tag:
        student.tokenizer.chat_template = student.tokenizer.chat_template.replace(
            "{{- content -}}\n{%- for call", "{%- generation -%}\n{{- content -}}\n"
            "{%- endgeneration -%}\n{%- for call")
    saved = student.save(tmp_path / "out") / "chat_template.jinja"
    assert jinja2.Template(saved.read_text()).render(messages=messages) == text
    assert load_student(tmp_path / "out").tokenizer.apply_chat_template(
        messages, tokenize=False) == text
