"""Every row of the field cases on training, students and batches, where the cases lie beside the
checkout.

What public bug reports showed, tried on the product. What matters stands as small ordinary tests:
`tests/students/test_source`, `tests/training/test_resume`, `tests/runs/test_runs` and those that
ELSEWHERE names.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jinja2
import nbformat
import pytest
import torch
import transformers
import trl.chat_template_utils as trl_templates
from field_cases import read_cases
from odd_folders import (
    EXPERTS,
    ODD,
    TOKENIZER,
    WEIGHTS,
    change_weights,
    model_folder,
    rename_weights,
)
from small_student import teacher_records
from tiny_project import STUDY, make_project, study_of, write_study
from training_project import make_inputs, parameters

from mentor_kit.batch.job import job_state
from mentor_kit.batch.study import load_study
from mentor_kit.batch.study_file import SourceMap, read_yaml
from mentor_kit.cli.train import train_file
from mentor_kit.errors import UserError
from mentor_kit.runs.parameters import configure
from mentor_kit.students.loading import LoadConfig
from mentor_kit.students.sampling import Sampling
from mentor_kit.students.student import give_template, load_student, prepare_tokenizer
from mentor_kit.students.tiny import build_tokenizer, chat_template
from mentor_kit.students.turns import decode_completion
from mentor_kit.training.config import TrainConfig

ROOT = Path(__file__).parents[2]
ROWS = read_cases("training-and-batch")
ENGINES = "tests/training/test_rollout_engines.py"
# rows that ordinary tests run whole: id -> the test
ELSEWHERE = {
    "TB-04": f"{ENGINES}::test_odd_turns_are_the_same_to_both_engines",
    "TB-05a": f"{ENGINES}::test_odd_turns_are_the_same_to_both_engines",
    "TB-05c": f"{ENGINES}::test_odd_turns_are_the_same_to_both_engines",
    "TB-05e": f"{ENGINES}::test_odd_turns_are_the_same_to_both_engines",
    "TB-P10": f"{ENGINES}::test_odd_turns_are_the_same_to_both_engines",
    "TB-13": f"{ENGINES}::test_results_at_the_model_s_last_position",
    "TB-15": "tests/training/test_resume.py::"
             "test_training_goes_on_from_the_checkpoint_before_one_that_is_not_whole",
    "TB-15c": "tests/training/test_resume.py::"
              "test_training_goes_on_from_the_checkpoint_before_one_that_is_not_whole",
    "TB-15e": "tests/runs/test_runs.py::"
              "test_params_that_a_crash_damaged_stop_nothing_where_the_folder_names_the_run",
    "TB-17": "tests/batch/test_disk_full.py::"
             "test_a_full_disk_is_named_and_room_is_all_that_is_missing",
    "TB-P01": "tests/students/test_backends.py::test_templates_of_qwen_are_taken_as_they_are",
    "TB-P11": "tests/training/test_resume.py::test_sft_killed_anywhere",
    "TB-P14": "tests/batch/test_batch.py::test_results_that_cannot_be_written_are_one_line",
    "TB-P21": "tests/notebooks/test_structure.py::test_it_carries_no_outputs_and_a_portable_kernel",
}
# where the product does better than a row expects: id -> why
ARGUED = {
    "TB-P05": "most of these templates are read in their own format now; the others are refused",
    "TB-16b": "the row asks for one line; a damaged study.json is written anew and the study goes "
              "on, as its runs are known by their keys",
    "TB-09b": "the row's tokenizer class is Qwen2's; any token beyond the embeddings is refused",
}
ONE = "name: tiny\nstages: {make: {notebook: make}}"
GREEDY = Sampling(max_new_tokens=60)


def refused(folder, match, **options):
    with pytest.raises(UserError, match=f"(?s){match}"):
        load_student(folder, **options)


def same_text(folder, row):
    """TB-03: nothing but the Sampling decides."""
    config = row["input"]["student"]["generation_config.json"]
    ids = {"range(400,800)": range(200, 400), "ids 300..699": range(200, 300),
           "range(3,1000)": range(3, 300)}
    own = {name: [i for i in ids[value] if i < len(TOKENIZER)] if isinstance(value, str) else value
           for name, value in config.items()}
    if "bad_words_ids" in own:
        own["bad_words_ids"] = [[i] for i in own["bad_words_ids"]]
    texts = []
    for name, settings in (("own", own), ("plain", {})):
        model = model_folder(folder / name, "Mistral", sliding_window=5000)
        (model / "generation_config.json").write_text(json.dumps(settings))
        problem = teacher_records(1)[0].problem
        texts.append(load_student(model).rollout([problem], GREEDY)[0].to_text())
    assert texts[0] == texts[1]


def prefixed(prefix):
    return lambda folder, _: refused(
        rename_weights(model_folder(folder / "x"), lambda n: prefix + n), "lacks 15.*random")


def trained(folder, **options):
    """`mentor-kit train` on a folder of a pretrained model."""
    params = parameters(make_inputs(folder), **{"start_run": "none", "steps": 2, "lora_rank": 2,
                                                "student_template": "kit", **options})
    train_file({k: str(v) if isinstance(v, Path) else v for k, v in params.items()},
               folder / "run")
    return load_student(folder / "run" / "student")


def moe(folder, _):
    model = model_folder(folder / "moe", "Qwen3Moe", **EXPERTS)
    assert trained(folder, method="sft", student_source=model).model


def drafts(_folder, row):
    """TB-04c: the draft in thoughts was not executed, the call after it was."""
    tokenizer = build_tokenizer(["a"])
    ids = tokenizer(row["input"]["completion"], add_special_tokens=False)["input_ids"]
    calls = decode_completion(tokenizer, ids, "x").calls
    assert [(c.name, c.executed) for c in calls if c.executed] == [("add", True)]


def no_tokenizer(folder, _):
    model = model_folder(folder / "x")
    (model / "tokenizer.json").unlink()
    refused(model, "its vocabulary is missing")


def pointer(folder, _):
    model = model_folder(folder / "x")
    (model / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid x\nsize 3\n")
    refused(model, "git-lfs")


def beyond(folder, _):
    refused(model_folder(folder / "x", vocab_size=len(TOKENIZER) - 1), "beyond the")


def not_numbers(folder, _):
    def damage(weights):
        weights["model.layers.0.self_attn.q_proj.weight"].fill_(float("nan"))
        return weights

    refused(change_weights(model_folder(folder / "x"), damage), "not finite numbers")


def adapters(folder, _):
    model = model_folder(folder / "x")
    (model / "adapter_config.json").write_text("{}")
    refused(model, "adapters beside")


def setting(match, **settings):
    def check(_folder, _row):
        with pytest.raises(UserError, match=match):
            configure(TrainConfig, **settings)
    return check


def damaged_study(folder, _):
    study = load_study(make_project(folder))
    study.reserve()
    (study.folder / "study.json").write_text("")
    study.reserve()
    assert json.loads((study.folder / "study.json").read_text())["name"] == "tiny"


def odd_notebook(change):
    def check(folder, _row):
        file = make_project(folder)
        path = folder / "notebooks" / "fit.ipynb"
        change(path)
        load_study(file)
    return check


def without_kernel(path):
    notebook = nbformat.read(path, 4)
    notebook.metadata = {}
    nbformat.write(notebook, path)


def empty_or_marked(folder, _):
    odd_notebook(lambda p: p.write_text("\ufeff" + p.read_text(), encoding="utf-8"))(folder, _)
    with pytest.raises(UserError, match="not a notebook"):
        odd_notebook(lambda p: p.write_text(""))(folder, _)


def study_text(folder, text, match):
    make_project(folder)
    with pytest.raises(UserError, match=match):
        load_study(write_study(folder, text))


def plain_jinja(folder, _):
    student = load_student(model_folder(folder / "in"))
    give_template(student.tokenizer)
    saved = (student.save(folder / "out") / "chat_template.jinja").read_text()
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "yes"}]
    assert jinja2.Template(saved).render(messages=messages).endswith("yes<|im_end|>")


def padding(token):
    def check(folder, _row):
        model = model_folder(folder / "x")
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        tokenizer.pad_token = token
        tokenizer.save_pretrained(model)
        assert load_student(model).tokenizer.pad_token == "<|endoftext|>"
    return check


def rolls_out(model, **options):
    student = load_student(model, **options)
    return student.rollout([teacher_records(1)[0].problem], Sampling(max_new_tokens=8))[0].turns


def larger_embedding(folder, _):
    assert rolls_out(model_folder(folder / "x", vocab_size=len(TOKENIZER) + 300))


def foreign_templates(_folder, _row):
    """Others are read in their own format, or refused with the way out; with ours they are
    taken."""
    names = [n for n in dir(trl_templates) if n.endswith("_chat_template") and "training" not in n
             and "_vl" not in n and not n.startswith(("get_", "clone_"))]
    refusals = 0
    for name in names:
        tokenizer = build_tokenizer(["a"])
        tokenizer.chat_template = getattr(trl_templates, name)
        try:
            prepare_tokenizer(tokenizer)
        except UserError as error:
            assert "\n" not in str(error) and "student_template=kit" in str(error)
            refusals += 1
        give_template(tokenizer)
        prepare_tokenizer(tokenizer)
        assert tokenizer.chat_template == chat_template()
    assert refusals > 5


def folder_variants(folder, _):
    plain = model_folder(folder / "plain")
    model = transformers.AutoModelForCausalLM.from_pretrained(plain)
    for name, save in {
            "sharded": lambda m, f: m.save_pretrained(f, max_shard_size="20kB"),
            "half": lambda m, f: m.half().save_pretrained(f),
            "brain float": lambda m, f: m.bfloat16().save_pretrained(f),
            "ünï cödé": lambda m, f: m.float().save_pretrained(f)}.items():
        save(model, folder / name)
        TOKENIZER.save_pretrained(folder / name)
        assert rolls_out(folder / name)
    assert rolls_out(f"{plain}/")
    assert rolls_out(model_folder(folder / "tied", tie_word_embeddings=True))
    torch.save(model.state_dict(), plain / "pytorch_model.bin")
    (plain / WEIGHTS).unlink()
    assert rolls_out(plain)


def damaged_folders(folder, _):
    sharded = model_folder(folder / "s")
    model = transformers.AutoModelForCausalLM.from_pretrained(sharded)
    model.save_pretrained(sharded, max_shard_size="20kB")
    (sharded / WEIGHTS).unlink(missing_ok=True)
    next(iter(sorted(sharded.glob("model-*.safetensors")))).unlink()
    refused(sharded, "cannot be loaded|lacks")
    for name, text in {"json": "{", "type": '{"model_type": "nothing_known"}',
                       "code": '{"model_type": "odd", "auto_map": {"AutoConfig": "c.C", '
                               '"AutoModelForCausalLM": "c.M"}}'}.items():
        odd = model_folder(folder / name)
        (odd / "config.json").write_text(text)
        (odd / "c.py").write_text("raise SystemExit('code of a folder was run')")
        refused(odd, "student")
    empty = model_folder(folder / "none")
    (empty / WEIGHTS).unlink()
    refused(empty, "cannot be loaded")


ARCHITECTURES = {"Mistral": {"sliding_window": 16}, "Gemma2": {}, "Gemma3Text": {}, "Phi3": {},
                 "SmolLM3": {}, "Granite": {}, "Olmo2": {}, **ODD}


def architectures(folder, _):
    for name, config in ARCHITECTURES.items():
        assert rolls_out(model_folder(folder / name, name, **config)), name


def merges(folder, _):
    ids = torch.tensor([TOKENIZER("Ann has 12 apples")["input_ids"]])
    tied = {"Qwen3": {"tie_word_embeddings": True}, "Gemma3Text": {}, "SmolLM3": {}, "Granite": {}}
    for name, config in {**tied, **{n: ODD[n] for n in ("Phi3", "GptOss")}}.items():
        model = model_folder(folder / name, name, **config)
        student = load_student(model, loading=LoadConfig(finetuning="lora", lora_rank=2))
        for parameter in (p for n, p in student.model.named_parameters() if "lora_B" in n):
            torch.nn.init.normal_(parameter, std=0.05)
        merged = load_student(student.save(folder / f"{name}-merged"))
        with torch.no_grad():
            torch.testing.assert_close(merged.model.eval()(ids).logits,
                                       student.model.eval()(ids).logits, atol=1e-5, rtol=1e-4)


def run_batch(study, *arguments, **environment):
    command = [sys.executable, "-m", "mentor_kit", "batch", str(study), *arguments]
    return subprocess.run(command, cwd=study.parents[1], capture_output=True, text=True,
                          check=False, timeout=280, env={**os.environ, **environment})


def environments(folder, _):
    for number, odd in enumerate([{"HOME": "/proc/nowhere", "LC_ALL": "C",
                                   "PYTHONIOENCODING": "ascii"}, {"TMPDIR": "/no/such/folder"}]):
        done = run_batch(make_project(folder / str(number), ONE), **odd)
        assert done.returncode == 0, done.stdout + done.stderr


def result_paths(folder, _):
    study = make_project(folder / "project", ONE)
    real = folder / "ünï $x %s #1 [a]{b} 'q'"
    real.mkdir()
    (folder / "link").symlink_to(real)
    assert run_batch(study, "--results", str(real)).returncode == 0
    again = run_batch(study, "--results", str(folder / "link"))
    assert again.returncode == 0 and "nothing to do" in again.stdout


def killed_by_its_terminal(folder, _):
    """TB-P15 and TB-P16: the second batch is refused; SIGHUP leaves nothing behind."""
    study = make_project(folder, study_of(2, "hang"))
    command = [sys.executable, "-m", "mentor_kit", "batch", str(study)]
    runner = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    while not list((folder / "results").glob("tiny/fit/*/params.yaml")):
        assert runner.poll() is None
        time.sleep(0.05)
    second = run_batch(study)
    assert second.returncode == 2 and "Another batch is at work" in second.stderr
    runner.send_signal(signal.SIGHUP)
    runner.wait()
    (folder / "mended").touch()
    done = run_batch(study)
    assert done.returncode == 0, done.stdout + done.stderr


def damaged_states(folder, _):
    study = make_project(folder, ONE)
    assert run_batch(study).returncode == 0
    job = load_study(study).jobs[0]
    for name in ("DONE", "params.yaml"):
        whole = (job.run_dir / name).read_bytes()
        for left in (0, 20):
            (job.run_dir / name).write_bytes(whole[:left])
            assert job_state(job.run_dir)[0] == "waiting"
        (job.run_dir / name).write_bytes(whole)
    (job.run_dir / "timing.jsonl").write_text('{"na')
    assert job_state(job.run_dir)[0] == "done"
    (job.run_dir / "FAILED").write_text("")
    (job.run_dir / "params.yaml").unlink()
    assert run_batch(study).returncode == 0


def other_kernels(folder, _):
    study = make_project(folder, ONE)
    path = folder / "notebooks" / "make.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.metadata = {"kernelspec": {"name": "ir", "language": "R", "display_name": "R"}}
    nbformat.write(notebook, path)
    assert run_batch(study).returncode == 0


def study_texts(folder, _):
    make_project(folder)
    file = folder / "params" / "tiny.yaml"
    file.write_bytes(("\ufeff" + file.read_text().replace("\n", "\r\n")).encode())
    load_study(file)
    for text in ("name: tiny\n\tstages: {}", "", "extends: tiny.yaml", "name: !!python/name:os.x",
                 STUDY.replace("name: tiny", "name: 3"), STUDY.replace("[0, 1]", "['a']"),
                 STUDY.replace("[0, 1]", "[0.5]"), STUDY.replace("[0, 1]", "[-1]")):
        study_text(folder, text, "tiny.yaml")


def parameter_texts(folder, _):
    for tracker in ("tensorboard", "all"):
        setting("report_to", report_to=tracker)(folder, _)
    (folder / "x.yaml").write_text("steps: 1\nsteps: 2\n")
    with pytest.raises(UserError, match="written twice"):
        read_yaml(folder / "x.yaml", SourceMap("x"))


def trainings(folder, _):
    for number, (dtype, options) in enumerate({
            "half": {"finetuning": "full"},
            "bfloat16": {"finetuning": "lora", "keep": "best", "kl_beta": 0.01}}.items()):
        place = folder / str(number)
        model = transformers.AutoModelForCausalLM.from_pretrained(model_folder(place / "x"))
        getattr(model, dtype)().save_pretrained(place / "x")
        assert trained(place, student_source=place / "x", **options).model


LIVE = {
    "TB-01": moe, "TB-04c": drafts, "TB-07": no_tokenizer, "TB-08": pointer, "TB-09b": beyond,
    **dict.fromkeys(("TB-03", "TB-03c", "TB-03e", "TB-03g", "TB-03i"), same_text),
    "TB-06": prefixed("_orig_mod."), "TB-06c": prefixed("base_model.model."),
    "TB-06e": lambda f, _: refused(rename_weights(
        model_folder(f / "x"), lambda n: n.replace("_proj.weight", "_proj.base_layer.weight")),
        "lacks 7"),
    "TB-06g": lambda f, _: refused(rename_weights(
        model_folder(f / "x"), lambda n: n.replace("q_proj", "query")), "lacks 2"),
    "TB-10": not_numbers, "TB-11b": adapters,
    "TB-14b": lambda f, _: refused("~/no/such/x", "no such folder"),
    "TB-14d": setting("wandb is not installed", report_to="wandb"),
    "TB-14f": setting("report_to='json'", report_to="json"), "TB-16b": damaged_study,
    "TB-19": odd_notebook(without_kernel), "TB-20b": empty_or_marked,
    "TB-21b": lambda f, _: study_text(f, STUDY.replace("{size: 4, rate: 0.5}", "{[a]: 3}"),
                                      "is not a text"),
    "TB-23": plain_jinja,
    "TB-25": lambda f, _: study_text(f, STUDY.replace("name: tiny", "name: interactive"),
                                     "folder of runs made by hand"),
    "TB-P02": padding("<|im_end|>"), "TB-P03": padding(None), "TB-P04": larger_embedding,
    "TB-P05": foreign_templates, "TB-P06": folder_variants, "TB-P07": damaged_folders,
    "TB-P08": architectures, "TB-P09": merges, "TB-P12": environments, "TB-P13": result_paths,
    "TB-P15": killed_by_its_terminal, "TB-P16": killed_by_its_terminal, "TB-P17": damaged_states,
    "TB-P18": other_kernels, "TB-P19": study_texts, "TB-P20": parameter_texts,
    "TB-P22": trainings,
}
# these start processes or train
SLOW = {"TB-01", "TB-P12", "TB-P13", "TB-P15", "TB-P16", "TB-P17", "TB-P18", "TB-P22"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n
                                  for n in LIVE if n in ROWS])
def test_row(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MENTOR_KIT_QUIET", "1")
    LIVE[name](tmp_path, ROWS[name])


@pytest.mark.skipif(not ROWS, reason="the cases are not beside this checkout")
def test_every_row_is_run_here_or_elsewhere():
    assert set(ROWS) == set(LIVE) | set(ELSEWHERE) and set(ARGUED) <= set(LIVE)
    for test in set(ELSEWHERE.values()):
        file, _, function = test.partition("::")
        assert f"def {function}(" in (ROOT / file).read_text(encoding="utf-8")
