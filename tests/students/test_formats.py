"""Students keep the call format they were trained in: tiny models of each architecture with the
template text that TRL ships, through rollouts, both engines, masks, SFT and a GRPO step."""

from __future__ import annotations

import re

import pytest
import torch
from small_student import grpo_trainer_of, new_run, teacher_records
from transformers import (
    Gemma4ForCausalLM,
    Gemma4TextConfig,
    GptOssConfig,
    GptOssForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    NemotronHConfig,
    NemotronHForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3_5ForCausalLM,
    Qwen3_5TextConfig,
)
from trl import chat_template_utils as trl_templates

from mentor_kit.core.chat_markup import EOS, render_call, render_environment
from mentor_kit.core.records import load_records
from mentor_kit.core.toolbox import Toolbox, load_toolbox
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.students import rollout
from mentor_kit.students.formats import call_format
from mentor_kit.students.native_format import PROBE
from mentor_kit.students.rollout import run_rollouts
from mentor_kit.students.sampling import Sampling
from mentor_kit.students.student import Student, load_student, prepare_tokenizer
from mentor_kit.students.tiny import build_tokenizer
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.sft import train_sft

pytestmark = pytest.mark.numeric
RECORDS = teacher_records(12)
TOOLS = load_toolbox("arithmetic").tools
BOX = Toolbox("two", [TOOLS["add"].function, TOOLS["multiply"].function])  # prompts are short
SMALL = {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1,
         "intermediate_size": 32, "head_dim": 16, "num_hidden_layers": 2,
         "max_position_embeddings": 4096}
HYBRID = {**SMALL, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2,
          "linear_num_value_heads": 2, "layer_types": ["linear_attention", "full_attention"]}
QWEN3_5 = (Qwen3_5TextConfig, Qwen3_5ForCausalLM, HYBRID, EOS)
LLAMA = (LlamaConfig, LlamaForCausalLM, SMALL, "<|eot_id|>")
NEMOTRON = (NemotronHConfig, NemotronHForCausalLM,
            {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
             "intermediate_size": 32, "layers_block_type": ["mamba", "attention", "mlp"],
             "ssm_state_size": 8, "mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 1,
             "max_position_embeddings": 4096, "use_mamba_kernels": False}, EOS)
STUDENTS = {  # template: configuration, model, its sizes, end token
    "qwen2_5": (Qwen2Config, Qwen2ForCausalLM, SMALL, EOS),
    "qwen3_5_think": QWEN3_5, "qwen3_5_nothink": QWEN3_5, "qwen3_6": QWEN3_5, "qwen3_8": QWEN3_5,
    "llama3_1": LLAMA, "llama3_2": LLAMA,
    "gemma4": (Gemma4TextConfig, Gemma4ForCausalLM,
               {**SMALL, "layer_types": ["sliding_attention", "full_attention"],
                "hidden_size_per_layer_input": 8, "global_head_dim": 16}, "<eos>"),
    "gptoss": (GptOssConfig, GptOssForCausalLM,
               {**SMALL, "num_local_experts": 2, "num_experts_per_tok": 1}, "<|return|>"),
    "lfm2_2_5": (Lfm2Config, Lfm2ForCausalLM, {**SMALL, "layer_types": ["conv", "full_attention"]},
                 EOS),
    "nemotron_3_nano": NEMOTRON}
ONE_OF_EACH = ["qwen2_5", "qwen3_5_think", "llama3_2", "gemma4", "gptoss", "lfm2_2_5"]
ADD, TIMES = render_call("add", {"a": 1, "b": 2}), render_call("multiply", {"a": 3, "b": 4})
BUDGET = 500
ANSWER = "The answer is \\boxed{3}."
MARK = re.compile(r"<\|[^|<>\s]+\|>|<\|[a-z_]+>|<[a-z_]+\|>|<\|\"\|>|</?think>")


def tokenizer_of(template, end):
    """The kit's byte-level tokenizer with the marks of a family as tokens."""
    tokenizer = build_tokenizer([r.problem.question for r in RECORDS], 600, max_length=4096)
    text = getattr(trl_templates, f"{template}_chat_template")
    tokenizer.add_tokens([*sorted(set(MARK.findall(text))), end])
    tokenizer.eos_token, tokenizer.chat_template = end, text
    return tokenizer


def student_of(template, other=""):
    """A student of this template; or of its architecture, with another one."""
    config, model, sizes, end = STUDENTS[template]
    tokenizer = tokenizer_of(other or template, end)
    extra = {"vocab_size_per_layer_input": len(tokenizer)} if template == "gemma4" else {}
    torch.manual_seed(0)
    made = model(config(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id,
                        bos_token_id=None, eos_token_id=None, **sizes, **extra))
    return Student(made, tokenizer, BOX, "test")


def turns(*texts):
    """Turns of the kit's form; a call is executed and followed by its results."""
    made = []
    for text in texts:
        results = [BOX.execute(c.name, c.arguments).content for c in Turn(text).calls]
        made.append(Turn(text, "eos", render_environment(results) if results else ""))
    return tuple(made)


def scripts_of(student):
    """What a student of this format writes, rollout by rollout: token ids of each turn."""
    form, together = student.format, f"{ADD}\n{TIMES}"
    said = [[ADD, f"<think>\nnow times\n</think>\n\n{TIMES}", ANSWER],
            [together, ANSWER] if getattr(form, "parallel", True) else [ADD, TIMES, ANSWER],
            [render_call("plus", {"a": 1}), ANSWER], [ADD] * 9, ["\\boxed{4}"]]
    write = form.write if hasattr(form, "write") else lambda turn: turn.text + EOS
    scripts = [[write(Turn(text)) for text in script] for script in said]
    broken = scripts[0][0].replace("1", "[oops", 1)  # some parsers refuse it, others read a text
    scripts += [[broken, scripts[0][-1]], ["word " * BUDGET],
                [student.tokenizer.decode([form.stops[0]])]]
    return [[student.tokenizer(text, add_special_tokens=False)["input_ids"][:BUDGET]
             for text in script] for script in scripts]


def scripted(trainer, student, scripts, patch):
    """The trainer's student writes these scripts, one for each question, whoever samples."""
    questions = [r.problem.question for r in RECORDS[:len(scripts)]]
    turns_done = dict.fromkeys(range(len(scripts)), 0)

    def choose(student, rows, scores, sampling):  # the kit asks for a token of each row
        scripted = [sum(scripts[questions.index(r.problem.question)], []) for r in rows]
        return [ids[sum(r.written)] for ids, r in zip(scripted, rows, strict=True)]

    def single_turn(prompt_ids, *_, **__):  # TRL asks for a turn of each row
        texts = student.tokenizer.batch_decode(prompt_ids)
        numbers = [next(n for n, q in enumerate(questions) if q in text) for text in texts]
        found = [scripts[n][turns_done[n]] for n in numbers]
        turns_done.update({n: turns_done[n] + 1 for n in numbers})
        return found, None

    patch.setattr(rollout, "_choose", choose)
    patch.setattr(trainer, "_generate_single_turn", single_turn)


def evaluated(student, scripts, patch):
    """The same scripts through evaluation's engine."""
    problems = [r.problem for r in RECORDS[:len(scripts)]]
    patch.setattr(rollout, "_generate", lambda student, rows, sampling: [
        scripts[problems.index(r.problem)][len(r.turns)] for r in rows])
    patch.setattr(rollout, "can_keep_cache", lambda model: False)
    rows = run_rollouts(student, problems, Sampling(max_new_tokens=BUDGET))
    return sorted(rows, key=lambda row: row.number)


@pytest.mark.parametrize("template", STUDENTS)
def test_a_step_of_training_and_evaluation_read_the_same(template, tmp_path, monkeypatch):
    """Prompts, token ids, masks, executed calls, observations; and the step trains."""
    student = student_of(template)
    scripts = scripts_of(student)
    trainer = grpo_trainer_of(student, tmp_path, RECORDS, prompts_per_step=len(scripts),
                              group_size=2, micro_batch=2 * len(scripts), max_new_tokens=BUDGET,
                              shared_prompts=True)
    batches, score = [], trainer._generate_and_score_completions
    monkeypatch.setattr(trainer, "_generate_and_score_completions",
                        lambda inputs: batches.append(score(inputs)) or batches[-1])
    scripted(trainer, student, scripts, monkeypatch)
    before = [p.detach().clone() for p in student.model.parameters()]
    trainer.train()
    batch, = batches
    stored = load_records(tmp_path / "rollouts" / "step-000001.parquet")
    rows = evaluated(student, scripts, monkeypatch)
    for number, row in enumerate(rows):
        place = 2 * number
        mask = batch["completion_mask"][place].bool()
        prompt = batch["prompt_ids"][place][batch["prompt_mask"][place].bool()]
        assert prompt.tolist() == row.prompt
        assert batch["completion_ids"][place][mask].tolist() == row.completion
        assert batch["tool_mask"][place][mask].tolist() == row.written
        trained = stored[place].trajectory
        assert trained.turns == tuple(row.turns)
        if template != "qwen2_5":
            assert trained.meta["ids"] == row.completion
            assert trained.meta["call_format"] == template
    seen = [[(c.name, c.observation.content) for c in r.trajectory("").calls if c.executed]
            for r in rows]
    assert seen[0] == seen[1] == [("add", "3"), ("multiply", "12")]
    assert seen[2] == [("plus", "{'error': 'Tool plus not found.'}")]
    assert len(seen[3]) == 4 and [r.turns[-1].finish for r in rows[3:5]] == ["max_turns", "eos"]
    assert ("add", "3") not in seen[5] and rows[6].turns[-1].finish == "length"
    assert any((p - b).abs().max() > 0 for p, b in zip(student.model.parameters(), before,
                                                       strict=True))
    assert all(p.isfinite().all() for p in student.model.parameters())


@pytest.mark.parametrize("template", ONE_OF_EACH)
def test_sft_rows_are_what_rollouts_join(template, tmp_path, monkeypatch):
    """The teacher's trajectory, encoded for SFT, is token for token the rollout that writes it."""
    student = student_of(template)
    row = evaluated(student, scripts_of(student)[:1], monkeypatch)[0]
    encoded = student.encode(RECORDS[0].problem.question,
                             Trajectory("q", turns(ADD, f"<think>\nnow times\n</think>\n\n{TIMES}",
                                                   ANSWER)))
    assert encoded["input_ids"] == row.prompt + row.completion
    assert encoded["assistant_masks"] == [0] * len(row.prompt) + row.written
    config = TrainConfig(method="sft", steps=1, sft_batch=4, validate_every=0, save_every=0)
    train_sft(student, RECORDS[:4], [], config, new_run(tmp_path))
    saved = load_student(student.save(tmp_path / "student"), BOX)
    assert saved.format.name == student.format.name and saved.format.stops == student.format.stops
    asked = [r.problem for r in RECORDS[:2]]
    kept, joined = [], Sampling(temperature=1.0, max_new_tokens=6)
    for engine in ("cache", "generate"):  # nothing scripted; the model's own, where it has none
        monkeypatch.undo()
        if engine == "generate":
            monkeypatch.setattr(rollout, "can_keep_cache", lambda model: False)
        kept.append(student.rollout(asked, joined))
    assert [t.turns for t in kept[0]] == [t.turns for t in kept[1]]
    trainer = grpo_trainer_of(student, tmp_path / "grpo", RECORDS, prompts_per_step=2, group_size=2,
                              micro_batch=4, max_new_tokens=6, shared_prompts=True)
    trainer.train()
    assert len(load_records(tmp_path / "grpo" / "rollouts" / "step-000001.parquet")) == 4


def draft(student, call):
    """A call that is written inside thoughts, in the student's own format, and then an answer."""
    form = student.format
    call = form.write(Turn(call))
    for end in student.tokenizer.convert_ids_to_tokens(list(form.stops)):
        call = call.removesuffix(end)
    said = form.write(Turn(f"<think>\nDRAFT\n</think>\n\n{ANSWER}"))
    return said.replace("DRAFT", call.removeprefix("\n</think>\n\n"))


@pytest.mark.parametrize("template", ["qwen3_5_think", "lfm2_2_5", "gptoss"])
def test_a_call_in_thoughts_is_a_draft(template):
    student = student_of(template)
    header = student.format.render(PROBE, prompt=True)
    read = Turn(student.format.read_text(draft(student, ADD), header))
    assert not read.calls and read.text.endswith(ANSWER) and "add" in read.text


def test_what_a_format_cannot_say_is_refused_or_said_in_parts():
    student = student_of("llama3_2")
    both = Trajectory("q", turns(f"{ADD}\n{TIMES}", ANSWER))
    texts = [student.tokenizer.decode(ids) for ids, _ in student.format.pieces(both)]
    assert [text.startswith("{") for text in texts] == [True, False, True, False, False]
    assert '"3"' in texts[1] and '"12"' in texts[3]
    for text in ("<tool_call>\n{broken\n</tool_call>", '{"name": "add", "parameters": {}}'):
        with pytest.raises(UserError, match="(?s)cannot be written in the student's llama3_2 "
                                            "format.*student_template=kit"):
            student.format.write(Turn(text))
    with pytest.raises(UserError, match="knows Hermes calls only, and this student writes llama"):
        student.rollout([RECORDS[0].problem], Sampling(constrain_tool_names=True))


def test_what_a_student_writes_speaks_for_nobody_else():
    """Marks of the kit's form in a native turn are text, and prompts do not hang on the date."""
    student = student_of("llama3_2")
    read = Turn(student.format.read_text(f"{ADD} <|im_end|> hm<|eot_id|>", ""))
    assert not read.calls and "&lt;tool_call>" in read.text and "<|im_end|>" not in read.text
    assert "26 Jul 2024" in student.tokenizer.decode(student.prompt_ids("?"))


def test_trl_s_loop_must_end_turns_as_the_format_does(tmp_path):
    student = student_of("gemma4")
    student.tokenizer.eos_token = "<turn|>"  # TRL would cut after the user's turn
    with pytest.raises(UserError, match="does not end turns as the student's gemma4 format"):
        grpo_trainer_of(student, tmp_path, RECORDS)


@pytest.mark.parametrize("template", ["qwen2_5", "qwen3", "qwen3_instruct_2507"])
def test_trl_s_loop_takes_hermes_students_of_any_template(template, tmp_path):
    """As on a GPU with Unsloth, where TRL's loop samples whatever the architecture."""
    student = student_of("qwen2_5", template)
    assert student.format.name == "hermes"
    assert grpo_trainer_of(student, tmp_path, RECORDS, rollout_engine="trl").tools


REFUSED = {"llama3": "does not know", "gemma3": "does not know", "phi3": "does not know",
           "cohere2": "does not know", "deepseekv3": "does not know", "lfm2": "does not know",
           "deepseek_r1_distill": "does not render tool calls",
           "glm4moe": "cannot be written"}


@pytest.mark.parametrize("template", REFUSED)
def test_what_is_refused_is_refused_in_one_line(template):
    with pytest.raises(UserError) as told:
        tokenizer = tokenizer_of(template, EOS)
        prepare_tokenizer(tokenizer)
        call_format(tokenizer)
    assert REFUSED[template] in str(told.value) and "student_template=kit" in str(told.value)
    assert "\n" not in str(told.value)
