"""Write the `parameters` cells of the notebooks from their configurations.

    python tests/tools/parameter_cells.py        # after a parameter was added or its help changed

A line is `name: type = default  # description`, in the order and under the comment lines that the
cell has; a new parameter is put last, under `# new`, for a person to place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mentor_kit.batch.preflight import CONFIGS
from mentor_kit.runs.parameters import StageConfig

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
RUN_DIR = 'run_dir: str = ""  # where this run is stored; "" is results/interactive'


def line(name: str, config: type[StageConfig]) -> str:
    """The line of one parameter."""
    if name == "run_dir":
        return RUN_DIR
    field = config.model_fields[name]
    default = field.get_default()
    shown = json.dumps(default) if isinstance(default, str | list) else repr(default)
    return f"{name}: {type(default).__name__} = {shown}  # {field.description}"


def cell(text: str, config: type[StageConfig]) -> str:
    """The text of a parameters cell as its configuration says."""
    kept, seen = [], set()
    for old in text.splitlines():
        name = old.partition(":")[0]
        if old.startswith("#") or not old.strip():
            kept.append(old)
        elif name == "run_dir" or name in config.model_fields:
            kept.append(line(name, config))
            seen.add(name)
    new = [line(name, config) for name in config.model_fields if name not in seen]
    return "\n".join([*kept, *(["# new"] if new else []), *new])


def parameters_of(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """The cell that is tagged `parameters`."""
    return next(c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", []))


def main() -> None:
    for name, config in CONFIGS.items():
        path = NOTEBOOKS / f"{name}.ipynb"
        notebook = json.loads(path.read_text(encoding="utf-8"))
        found = parameters_of(notebook)
        found["source"] = cell("".join(found["source"]), config).splitlines(keepends=True)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
