"""The embedded student: tokenizer, template, encoding, rollouts by TRL's rules, saving."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from small_student import (
    BOX,
    by_heart,
    clone,
    learn_by_heart,
    steady_seed,
    teacher_records,
    untrained,
)
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.chat_template_utils import (
    is_chat_template_prefix_preserving,
    supports_tool_calling,
)

from mentor_kit.core.chat_markup import EOS, render_call, render_environment
from mentor_kit.core.trajectory import Trajectory
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.students import rollout
from mentor_kit.students.backends import resolve_backend
from mentor_kit.students.constrained import KnownToolNames
from mentor_kit.students.kv_decoder import KVDecoder, can_keep_cache
from mentor_kit.students.rollout import rollouts
from mentor_kit.students.sampling import Sampling, next_tokens
from mentor_kit.students.student import Student, load_student, prepare_tokenizer, prompt_messages
from mentor_kit.students.tiny import build_model, build_tokenizer
from mentor_kit.students.turns import decode_completion, execute_turn

pytestmark = pytest.mark.numeric
RECORDS = teacher_records(16)


@pytest.fixture(scope="module")
def fresh() -> Student:
    return untrained(RECORDS)


@pytest.fixture(scope="module")
def student() -> Student:
    return by_heart(16)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_tokenizer_keeps_any_text(fresh, text):
    ids = fresh.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert fresh.tokenizer.decode(ids) == text


def test_digits_are_single_tokens(fresh):
    ids = fresh.tokenizer("2048", add_special_tokens=False)["input_ids"]
    assert [fresh.tokenizer.decode([i]) for i in ids] == ["2", "0", "4", "8"]


def test_same_texts_same_tokenizer_and_weights():
    texts = [r.problem.question for r in RECORDS]
    a, b = build_tokenizer(texts), build_tokenizer(texts)
    assert a.backend_tokenizer.to_str() == b.backend_tokenizer.to_str()
    weights = [build_model(a, seed=3).state_dict() for _ in range(2)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_template_suits_trl(fresh):
    assert supports_tool_calling(fresh.tokenizer)
    assert is_chat_template_prefix_preserving(fresh.tokenizer)


def test_tool_block_is_compact(fresh):
    text = fresh.tokenizer.apply_chat_template(prompt_messages("Why?"), tools=fresh.tool_schemas,
                                               tokenize=False,
                                               add_generation_prompt=True)
    assert text.startswith("<|im_start|>system\nTools:\nadd(a, b)\nsubtract(a, b)\n")
    assert text.endswith("Why?\nPut the final answer in "
                         "\\boxed{}.<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize("record", RECORDS[:6], ids=lambda r: r.problem.id)
def test_encoding_is_the_template_and_masks_what_the_assistant_wrote(fresh, record):
    encoded = fresh.encode(record.problem.question, record.trajectory)
    messages = prompt_messages(record.problem.question) + record.trajectory.messages()
    assert fresh.tokenizer.decode(encoded["input_ids"]) == fresh.tokenizer.apply_chat_template(
        messages, tools=fresh.tool_schemas, tokenize=False)
    written = [i for i, m in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
               if m]
    assert fresh.tokenizer.decode(written) == "".join(t.text + EOS for t in record.trajectory.turns)


def test_a_student_that_knows_its_lessons_by_heart_writes_them(student):
    records = [student.ask(r.problem) for r in RECORDS]
    assert [r.trajectory.to_text() for r in records] == [r.trajectory.to_text() for r in RECORDS]
    assert all(r.trajectory.meta["correct"] for r in records)
    assert all(r.trajectory.calls and all(c.executed for c in r.trajectory.calls) for r in records)


@pytest.fixture(scope="module")
def steady(student) -> Sampling:
    """Settings with which no draw hangs on the scores' last bits."""
    def settings(seed):
        return Sampling(temperature=1.0, max_new_tokens=120, seed=seed)

    problems = [r.problem for r in RECORDS]
    return settings(steady_seed(rollout, lambda seed: student.rollout(problems, settings(seed))))


@pytest.mark.parametrize("sampled", [False, True])
def test_neighbours_do_not_change_a_rollout(student, steady, sampled):
    """One by one, refilled, all at once, the other way round: the same texts, sampled ones too."""
    problems = [r.problem for r in RECORDS]
    settings = steady if sampled else Sampling(max_new_tokens=120)
    together = [t.to_text() for t in student.rollout(problems, settings)]
    for batch_size in (1, 3, 5):
        assert [t.to_text()
                for t in student.rollout(problems, settings, batch_size=batch_size)] == together
    assert [t.to_text() for t in student.rollout(problems[::-1], settings,
                                                 batch_size=4)] == together[::-1]


@pytest.mark.parametrize("options", [
    {"temperature": 0.0}, {"temperature": 1.0, "top_k": 50, "top_p": 0.8}, {}],
    ids=["greedy", "only what is known by heart", "all"])
def test_rollouts_are_those_of_generate(student, steady, monkeypatch, options):
    """The decoder against the model's own `generate`, whose rows we draw by a processor."""
    problems = [r.problem for r in RECORDS]
    settings = Sampling(max_new_tokens=120, **options) if options else steady
    ours = student.rollout(problems, settings, batch_size=7)
    monkeypatch.setattr(rollout, "can_keep_cache", lambda _: False)
    assert student.rollout(problems, settings, batch_size=7) == ours
    assert len({t.to_text() for t in ours}) > 8


def test_rollouts_are_handed_over_as_they_finish_and_leave_the_model_as_it_was(student):
    problems, usual = [r.problem for r in RECORDS], student.model.config._attn_implementation
    student.model.train()
    places = [place for place, _ in rollouts(student, problems, Sampling(), batch_size=4)]
    assert sorted(places) == list(range(len(problems))) and set(places[:4]) <= set(range(8))
    stopped = rollouts(student, problems, Sampling(), batch_size=4)
    next(stopped)
    stopped.close()
    assert student.model.training and student.model.config._attn_implementation == usual == "sdpa"


def test_sampling_settings_are_applied_in_every_turn(student):
    """With one candidate, or next to no mass, hot sampling is greedy decoding, in every turn and
    after tool results."""
    problems = [r.problem for r in RECORDS]
    greedy = [t.to_text() for t in student.rollout(problems, Sampling(max_new_tokens=120))]
    assert max(t.count("<tool_response>") for t in greedy) > 1
    for narrow in (Sampling(temperature=2.0, top_k=1, max_new_tokens=120),
                   Sampling(temperature=2.0, top_p=1e-6, max_new_tokens=120),
                   Sampling(temperature=1e-4, max_new_tokens=120)):
        assert [t.to_text() for t in student.rollout(problems, narrow)] == greedy
    # next to any token
    hot = student.rollout(problems, Sampling(temperature=9.0, max_new_tokens=120))
    assert not any(t.to_text() == g for t, g in zip(hot, greedy, strict=True))


def test_samples_of_a_problem_differ_and_are_numbered(student):
    problem = RECORDS[0].problem

    def settings_of(seed):
        return Sampling(temperature=9.0, max_new_tokens=60, seed=seed)

    settings = settings_of(steady_seed(
        rollout, lambda seed: student.rollout([problem] * 4, settings_of(seed)), margin=1e-5))
    four = student.rollout([problem] * 4, settings)
    assert [t.sample for t in four] == [0, 1, 2, 3] and len({t.to_text() for t in four}) == 4
    assert student.rollout([problem], settings, samples=[2]) == four[2:3]


@pytest.mark.parametrize("name", ["Llama", "Mistral", "Qwen2", "Qwen3"])
def test_decoder_reads_as_the_model_does(name):
    """Rows that come, are fed in pieces and go: each row's scores are those of one plain pass over
    all its tokens."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(
        vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8,
        intermediate_size=48, sliding_window=None, tie_word_embeddings=True)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    assert can_keep_cache(model)
    chance, shared = random.Random(1), [3, 1, 4, 1, 5]
    decoder, texts = KVDecoder(model, 4, shared), []
    for step in range(60):
        while len(texts) < 4:
            twin = len(texts) == 3 and step % 2  # a second row with the prompt of the first
            texts.append(texts[0][:] if twin
                         else shared + chance.choices(range(97), k=chance.randint(1, 40)))
            decoder.add_row(texts[-1])
        wide = any(len(ids) > 1 for ids in decoder.pending)
        for rows, scores in decoder.prefill() if wide else [(range(len(texts)),
                                                             decoder.decode_step())]:
            for row, score in zip(rows, scores, strict=True):
                with torch.no_grad():
                    expected = model(torch.tensor([texts[row]])).logits[0, -1]
                assert torch.allclose(score, expected, atol=1e-5)
                decoder.pending[row] = chance.choices(range(97), k=chance.choice([1, 1, 1, 9, 30]))
                texts[row] = texts[row] + decoder.pending[row]
        if step % 5 == 4:
            row = chance.randrange(4)
            decoder.free_row(row)
            texts[row] = texts[-1]
            texts.pop()


def test_the_next_token_is_the_likeliest_or_where_the_draw_falls():
    class Draws:
        def __init__(self, value):
            self.random = lambda: value

    scores = torch.tensor([0.5, 0.25, 0.0, 0.25]).log()[None]
    assert next_tokens(scores.repeat(2, 1), [None, None]) == [0, 0]
    draws = [0.0, 0.49, 0.51, 0.74, 0.76, 0.999999]
    assert next_tokens(scores.repeat(6, 1), [Draws(d) for d in draws]) == [0, 0, 1, 1, 3, 3]


def test_what_the_decoder_cannot_keep_goes_through_generate(student):
    config = transformers.Qwen2Config(vocab_size=50, hidden_size=16, num_hidden_layers=2,
                                      num_attention_heads=2,
                                      num_key_value_heads=1, intermediate_size=16,
                                      use_sliding_window=True,
                                      sliding_window=4, max_window_layers=0)
    assert not can_keep_cache(transformers.Qwen2ForCausalLM(config)) and can_keep_cache(
        student.model
    )
    gpt = transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2)
    assert not can_keep_cache(transformers.GPT2LMHeadModel(gpt)) and not can_keep_cache(
        torch.nn.Linear(1, 1)
    )
    patched = clone(student).model
    patched.for_inference = lambda: None  # as Unsloth leaves it, whose class may be the plain one
    assert not can_keep_cache(patched)


def test_a_checkpoint_s_generation_settings_change_nothing():
    """TB-03: the Sampling alone decides, also where `generate` writes."""
    texts = []
    for own in ({}, {"repetition_penalty": 2.0}, {"suppress_tokens": list(range(200, 400))},
                     {"do_sample": True, "temperature": 0.7, "top_k": 20}):
        plain = untrained(RECORDS)
        config = transformers.MistralConfig(
            vocab_size=len(plain.tokenizer), hidden_size=32, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, intermediate_size=32,
            sliding_window=5000, initializer_range=0.3)
        torch.manual_seed(0)
        model = transformers.MistralForCausalLM(config)
        model.generation_config.update(**own)
        assert not can_keep_cache(model)
        student = Student(model, plain.tokenizer, BOX)
        texts.append(student.rollout([RECORDS[0].problem], Sampling(max_new_tokens=40)))
    assert all(t == texts[0] for t in texts)


def test_weights_that_are_not_numbers_write_nothing(student):
    """TB-10: a student whose scores are nan is refused, not measured."""
    learner = clone(student)
    torch.nn.init.constant_(learner.model.model.layers[0].self_attn.q_proj.weight, float("nan"))
    with pytest.raises(UserError, match="scores are not finite numbers .nan or infinity."):
        learner.rollout([RECORDS[0].problem])


def test_sampling_is_seeded(student):
    problems = [r.problem for r in RECORDS]
    texts = [[t.to_text() for t in student.rollout(problems, Sampling(temperature=9.0, seed=s))]
             for s in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_limits_end_a_rollout(student):
    cut = student.rollout([RECORDS[0].problem], Sampling(max_new_tokens=5))[0]
    assert cut.finish == "length" and cut.meta["tokens"] == 5
    capped = student.rollout([RECORDS[0].problem], Sampling(max_turns=1))[0]
    assert capped.finish == "max_turns" and len(capped.turns) == 1 and not capped.calls[0].executed


def test_turns_execute_as_in_trl(fresh):
    good, unknown = render_call("add", {"a": 1, "b": 2}), render_call("plus", {"a": 1, "b": 2})
    assert execute_turn(BOX, Turn(good + "\n" + unknown)) == ["3",
                                                                "{'error': 'Tool plus not found.'}"]
    # one malformed: none is executed
    assert execute_turn(BOX, Turn(good + "\n<tool_call>{oops</tool_call>")) == []


def test_completion_of_trl_becomes_a_trajectory(fresh):
    text = (
        render_call("add", {"a": 1, "b": 2})
        + EOS
        + render_environment(["3"])
        + "The answer is \\boxed{3}."
        + EOS
    )
    ids = fresh.tokenizer(text, add_special_tokens=False)["input_ids"]
    trajectory = decode_completion(fresh.tokenizer, ids, "p")
    assert trajectory.to_text() == text and trajectory.finish == "eos" and trajectory.calls[0].ok
    capped = decode_completion(fresh.tokenizer, ids[:ids.index(fresh.tokenizer.eos_token_id) + 1],
                               "p")
    assert capped.finish == "max_turns" and not capped.calls[0].executed


def test_masking_allows_known_names_only(fresh):
    processor = KnownToolNames(fresh.tokenizer, [BOX.names])
    text = '<tool_call>\n{"name": "'
    for _ in range(12):
        ids = torch.tensor([fresh.tokenizer(text, add_special_tokens=False)["input_ids"]])
        scores = processor(ids,
                           torch.randn(1, len(fresh.tokenizer),
                                       generator=torch.Generator().manual_seed(0)))
        text += fresh.tokenizer.decode([int(scores.argmax())])
        if '"' in text.rpartition('{"name": "')[2]:
            break
    assert text.rpartition('{"name": "')[2].split('"')[0] in BOX.names
    outside = torch.zeros(1, len(fresh.tokenizer))
    ids = torch.tensor([fresh.tokenizer("The answer is", add_special_tokens=False)["input_ids"]])
    assert torch.equal(processor(ids, outside.clone()), outside)


def test_masking_knows_the_tools_that_an_item_brings(student):
    """The control on a problem with tools of its own: its names are the only ones that can be
    written. The student knows by heart to call `add` there, which is not one of them."""
    own = [{"type": "function",
            "function": {"name": f"count_{what}", "description": "", "parameters": {
        "type": "object", "properties": {}}}} for what in ("sheep", "stars")]
    problem = replace(RECORDS[0].problem,
                      meta={"prompt_messages": prompt_messages("How many?"), "tool_schemas": own})
    learner, call = clone(student), student.tokenizer(render_call("add",
                                                                  {"a": 1,
                                                                   "b": 2}) + EOS)["input_ids"]
    prompt = rollout.prompt_ids(learner, problem)
    learn_by_heart(learner,
                   [{"input_ids": prompt + call,
                     "assistant_masks": [0] * len(prompt) + [1] * len(call)},
                             learner.encode(RECORDS[1].problem.question, RECORDS[1].trajectory)])
    asked = [problem, RECORDS[1].problem]
    assert names_written(learner.rollout(asked)) == [{"add"}, set(RECORDS[1].trajectory.tool_names)]
    for temperature in (0.0, 1.0):
        masked = learner.rollout(asked,
                                 Sampling(constrain_tool_names=True, temperature=temperature,
                                          max_new_tokens=120))
        ours, usual = names_written(masked)
        assert (
            ours <= {"count_sheep", "count_stars"}
            and usual <= set(BOX.names)
            and len(masked[0].turns) == 1
        )
        assert temperature or (ours and usual)


def names_written(trajectories):
    return [set(re.findall(r'"name": "(\w+)"', t.to_text())) for t in trajectories]


def test_saved_student_is_a_transformers_folder(student, tmp_path):
    folder = student.save(tmp_path / "student")
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    assert model.num_parameters() == student.model.num_parameters() and len(tokenizer) == len(
        student.tokenizer
    )
    assert "library_name: transformers" in (folder / "README.md").read_text()
    again = load_student(folder)
    problem = RECORDS[0].problem
    assert again.rollout([problem])[0].to_text() == student.rollout([problem])[0].to_text()
    with pytest.raises(UserError, match="exists already"):
        student.save(folder)


def test_folder_without_tokenizer_is_refused(student, tmp_path):
    student.model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="holds no tokenizer"):
        load_student(tmp_path)


def test_unreachable_student_and_unknown_backend(tmp_path):
    with pytest.raises(UserError, match="is no folder here, and the hub does not give it .* copy "
                                        "it here and give"):
        load_student("nobody/no-such-model")
    for missing in ("results/no/such/folder", "~/nothing", "./nothing"):
        with pytest.raises(UserError, match="there is no such folder; give one that"):
            load_student(missing)
    with pytest.raises(UserError, match="unknown: use one of"):
        resolve_backend("cuda")


def test_foreign_templates_are_refused(fresh):
    tokenizer = build_tokenizer(["a"])
    tokenizer.chat_template = "{{ messages[0].content }}"
    with pytest.raises(UserError, match="TRL does not know this student's chat template"):
        prepare_tokenizer(tokenizer)
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        prepare_tokenizer(tokenizer)


def test_ask_draws_itself(student):
    record = student.ask("What is 3 plus 4?")
    assert "What is 3 plus 4?" in record._repr_html_()
    assert isinstance(record.trajectory, Trajectory)
