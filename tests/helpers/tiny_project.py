"""A project of tiny real notebooks in a temporary folder, for the tests of studies, batches and the
command line."""

from __future__ import annotations

import textwrap
from pathlib import Path

import nbformat

MAKE = """
run_dir: str = ""  # where it writes
data_seed: int = 1  # seed of the data
size: int = 3  # items
# %%
from mentor_kit.runs.open import init_run
run = init_run(run_dir, stage="make", params={"data_seed": data_seed, "size": size})
# %%
run.path("data.txt").write_text(" ".join(str(data_seed + i) for i in range(size)))
run.finish(size=size);
"""
FIT = """
run_dir: str = ""
data_run: str = ""  # the data
seed: int = 0
method: str = "ok"  # raise, die and hang do so until a file `mended` exists
rate: float = 0.1
names: list[str] = ["a"]
# %%
from mentor_kit.runs.open import load_run, init_run
data = load_run(data_run)
params = dict(seed=seed, method=method, rate=rate, names=names)
run = init_run(run_dir, stage="fit", params=params, inputs={"data_run": data})
# %%
import os, signal, time
broken = not os.path.exists("mended")
if method == "raise" and broken:
    raise ValueError("this method cannot be fitted")
if method == "die" and broken:
    os.kill(os.getpid(), signal.SIGKILL)
if method == "hang" and broken:
    time.sleep(600)
# %%
total = sum(map(int, data.path("data.txt").read_text().split())) + seed
for step in range(3):
    run.log({"step": step, "total": total})
run.path("total.txt").write_text(str(total))
run.finish(total=total);
"""
TABLE = """
run_dir: str = ""
runs: list = []  # everything
# %%
from mentor_kit.runs.open import load_run, init_run
loaded = [load_run(r) for r in runs]
run = init_run(run_dir, stage="table", params={}, inputs={"runs": loaded})
# %%
lines = [f"{r.stage} {r.params.get('method')} {r.facts}" for r in loaded]
print(len(lines), "runs")
# %%
run.path("summary.md").write_text("\\n".join(lines))
run.finish();
"""
STUDY = """
    name: tiny
    stages:
      make: {notebook: make}
      fit: {notebook: fit, needs: {data_run: make}, grid: [method]}
      figures: {notebook: table, needs: {runs: all}}
    fixed: {size: 4, rate: 0.5}
    grid:
      method: [ok, fine]
    seeds: [0, 1]
"""


def study_of(jobs: int, *methods: str, table: bool = False) -> str:
    """A study of so many jobs: one `make`, fits by these methods and others, and with `table` one
    that gathers all."""
    others = [f"m{i:02d}" for i in range(jobs - 1 - table - len(methods))]
    last = "\n      figures: {notebook: table, needs: {runs: all}}" * table
    return f"""
    name: tiny
    stages:
      make: {{notebook: make}}
      fit: {{notebook: fit, needs: {{data_run: make}}, grid: [method]}}{last}
    grid:
      method: [{", ".join([*methods, *others])}]
"""


def write_notebook(path: Path, text: str) -> Path:
    """A notebook of the cells between `# %%` lines; the first is tagged `parameters`."""
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in text.split("# %%\n")]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def write_study(root: Path, text: str = STUDY, name: str = "tiny") -> Path:
    file = root / "params" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text).strip() + "\n", encoding="utf-8")
    return file


def make_project(root: Path, text: str = STUDY) -> Path:
    """notebooks/ make, fit and table, and params/tiny.yaml. Returns the study's file."""
    for name, text_of in {"make": MAKE, "fit": FIT, "table": TABLE}.items():
        write_notebook(root / "notebooks" / f"{name}.ipynb", text_of)
    return write_study(root, text)
