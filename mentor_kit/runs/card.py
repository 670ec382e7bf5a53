"""How a run shows itself in a notebook: a small card."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from mentor_kit.core.files import project_root
from mentor_kit.core.html import CARD, clean
from mentor_kit.core.plugins import load_object

MAX_ROWS = 12  # parameters, and results, that a card lists
STYLE = "<td style='text-align:left;padding:1px 8px 1px 0;vertical-align:top'>"


class RunLike(Protocol):
    """What is drawn of a `mentor_kit.runs.run.Run`, which draws itself by this module."""

    dir: Path
    params: Mapping[str, Any]
    inputs: Mapping[str, Any]
    facts: Mapping[str, Any]

    def is_done(self) -> bool: ...
    def metrics(self) -> list[dict[str, Any]]: ...


def run_card(run: RunLike, config: str | None) -> str:
    """HTML: name, method, state, inputs, parameters that differ from the defaults, results, folder.

    `config` names the class whose fields hold the defaults, `package.module:name`; None lists all
    parameters. The folder is shown relative to the project that it lies in.
    """
    folder = run.dir.resolve()
    project = project_root(folder)  # the folder itself where it lies in none
    method = run.params.get("method") or run.facts.get("method")
    rows = [("state", _state(run)), *([("method", method)] if method else []),
            *((name, _listed(runs)) for name, runs in run.inputs.items()),
            ("parameters", _joined(_changed(run.params, config)) or "all at their defaults"),
            ("results", _joined(dict(_results(run)))),
            ("folder", (run.dir if project == folder else folder.relative_to(project)).as_posix())]
    body = "".join(f"<tr>{STYLE}{_text(name)}</td>{STYLE}{_text(value)}</td></tr>"
                   for name, value in rows if value)
    return f"<div style='{CARD}'><b>{_text(run)}</b><table>{body}</table></div>"


def _text(value: Any) -> str:
    return html.escape(clean(str(value)))


def _state(run: RunLike) -> str:
    if (run.dir / "FAILED").is_file():
        return "failed"
    return "done" if run.is_done() else "not finished"


def _listed(runs: str | list[str]) -> str:
    if isinstance(runs, str):
        return runs
    return f"{len(runs)} runs" if len(runs) > 3 else ", ".join(runs)


def _changed(params: Mapping[str, Any], config: str | None) -> dict[str, Any]:
    fields = load_object(config, "configuration").model_fields if config else {}
    return {name: json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
            for name, value in params.items()
            if name != "method" and not (name in fields and fields[name].default == value)}


def _results(run: RunLike) -> Iterator[tuple[str, Any]]:
    """The judge's accuracies where the run has some, else its other facts; a training's last
    validation."""
    accuracies = [name for name in run.facts if name.startswith("accuracy/")]
    for name in accuracies:
        yield name, _percent(run.facts[name])
    if not accuracies:
        yield from ((name, value) for name, value in run.facts.items() if name != "method")
    for row in [row for row in run.metrics() if "val/accuracy" in row][-1:]:
        yield "val/accuracy", f"{_percent(row['val/accuracy'])} at step {row['step']}"


def _percent(value: float | None) -> str:
    return "no items" if value is None else f"{100 * value:.1f}%"


def _joined(items: Mapping[str, Any]) -> str:
    shown = [f"{name} {value}" for name, value in list(items.items())[:MAX_ROWS]]
    more = len(items) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
