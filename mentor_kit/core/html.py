"""How a trajectory shows itself: coloured R, T, O, A steps in Jupyter, plain text in a terminal.

    show(record)                                       # in a notebook or a terminal
    side_by_side([("teacher", reference), ("student", record)])

What a model wrote is data: everything is escaped, control characters are replaced, and nothing is
typeset as mathematics. No scripts, no styles outside the elements, no external resources, own
background and text colour, so the picture is the same in light and dark themes and in exported
notebooks.
"""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mentor_kit.core.problem import Problem, known_tools
from mentor_kit.errors import UserError

KINDS = {"R": ("reasoning", "#56b4e9", "#eef7fd"), "T": ("tool use", "#e69f00", "#fdf5e3"),
         # Okabe and Ito's palette
         "O": ("observation", "#009e73", "#e8f6f1"), "A": ("answer", "#cc79a7", "#fbf1f6"),
         "U": ("user", "#999999", "#f4f4f4")}
WARN, RIGHT = "#a33c00", "#00614a"  # vermillion and bluish green, darkened until they read on white
FOLD_CHARACTERS, FOLD_LINES = 400, 8  # longer texts are folded
MAX_CHARACTERS = 20_000  # the rest of a longer text is left out of the picture, and said so
FINISHES = {"eos": "", "length": "cut off: length limit", "max_turns": "stopped: turn limit",
            "error": "stopped: error"}
CONTROL_RE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

CARD = ("box-sizing:border-box;background:#fff;color:#222;border:1px solid "
        "#bbb;border-radius:6px;padding:8px 10px;margin:4px 0;max-width:56em;font:13px/1.4 "
        "system-ui,sans-serif;text-align:left")
TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate"
MONO = TEXT + ";font-family:ui-monospace,Menlo,Consolas,monospace;font-size:12px"


class TrajectoryLike(Protocol):
    """What is drawn of a `mentor_kit.Trajectory`, which draws itself by this module."""

    turns: Sequence[Any]
    steps: Sequence[Any]
    calls: Sequence[Any]
    finish: str
    producer: str
    meta: Mapping[str, Any]


class RecordLike(Protocol):
    """What is drawn of a `mentor_kit.Record`."""

    problem: Problem
    trajectory: TrajectoryLike
    reference: TrajectoryLike | None


class Html:
    """A piece of HTML that Jupyter shows; `str()` gives its source."""

    def __init__(self, source: str) -> None:
        self.source = source

    def __str__(self) -> str:
        return self.source

    def _repr_html_(self) -> str:
        return self.source


@dataclass(frozen=True)
class Mark:
    """A step with its label (`T2` and `O2` belong together) and what is wrong with it, in words."""

    step: Any
    label: str
    text: str
    troubles: tuple[str, ...]


def compact_call(call: Any) -> str:
    """`name(a=1, b=2)`; the raw text of a malformed call."""
    if call.name is None:
        return call.text.strip()
    if not isinstance(call.arguments, dict):
        return f"{call.name}({_value(call.arguments)})"
    return f"{call.name}({', '.join(f'{n}={_value(v)}' for n, v in call.arguments.items())})"


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _marks(trajectory: TrajectoryLike, names: Sequence[str] | None) -> Iterator[Mark]:
    number = {id(call): i for i, call in enumerate(trajectory.calls, start=1)}
    for step in trajectory.steps:
        if step.kind == "T":
            yield Mark(step, f"T{number[id(step.call)]}", compact_call(step.call),
                       _call_troubles(step.call, names))
        elif step.kind == "O":
            troubles = () if step.call.ok else ("error",)
            yield Mark(step, f"O{number[id(step.call)]}", step.text, troubles)
        else:
            troubles = ("call never closed",) if "<tool_call>" in step.text else ()
            yield Mark(step, step.kind, step.text, troubles)


def _call_troubles(call: Any, names: Sequence[str] | None) -> tuple[str, ...]:
    unknown = names is not None and call.name is not None and call.name not in names
    facts = {"malformed": call.name is None, "unknown tool": unknown,
             "never executed": not call.executed}
    return tuple(text for text, holds in facts.items() if holds)


def _known_names(problem: Problem) -> tuple[str, ...] | None:
    """The tools of a problem; None where its toolbox cannot be loaded here (the record can still be
    looked at)."""
    try:
        return known_tools(problem)
    except UserError:
        return None


def clean(text: str) -> str:
    """Text that is safe to show: control, direction and unpaired surrogate characters are replaced
    by U+FFFD."""
    return CONTROL_RE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def _escape(text: str) -> str:
    return html.escape(clean(str(text)), quote=True)


def _cut(text: str) -> str:
    left_out = len(text) - MAX_CHARACTERS
    end = f"\n[{left_out:,} more characters not shown]" if left_out > 0 else ""
    return text[:MAX_CHARACTERS] + end


def _folded(text: str, style: str = TEXT) -> str:
    """A text, folded with its beginning as the summary where it is long."""
    body = f"<div style='{style}'>{_escape(_cut(text))}</div>"
    if len(text) <= FOLD_CHARACTERS and text.count("\n") < FOLD_LINES:
        return body
    head = " ".join(text[:200].split())[:110]
    return (f"<details><summary style='cursor:pointer;{style};white-space:normal'>{_escape(head)}… "
            f"<span style='color:#555'>({len(text):,} characters)</span></summary>{body}</details>")


def _badge(text: str, colour: str = WARN) -> str:
    return ("<span style='display:inline-block;border:1px solid "
            f"{colour};border-radius:3px;color:{colour};"
            "background:#fff;white-space:nowrap;font:bold 11px system-ui,sans-serif;padding:0 "
            f"4px;margin:0 0 2px 6px'>{_escape(text)}</span>")


def _step_html(mark: Mark) -> str:
    name, strong, pale = KINDS[mark.step.kind]
    edge = f"2px dashed {WARN}" if mark.troubles else f"1px solid {pale}"
    badges = "".join(_badge("✗ " + t) for t in mark.troubles)
    style = MONO if mark.step.kind in "TO" else TEXT
    return (
        "<div "
        f"style='display:flex;gap:8px;align-items:flex-start;background:{pale};color:#222;border:{edge};"
        f"border-left:5px solid {strong};border-radius:3px;margin:3px 0;padding:3px 6px'><span "
        f"title='{name}' "
        f"style='flex:none;min-width:22px;text-align:center;background:{strong};color:#000;"
        "font:bold 11px/18px ui-monospace,monospace;border-radius:3px;padding:0 "
        f"2px'>{mark.label}</span><div "
        f"style='flex:1;min-width:0'>{_folded(mark.text, style)}</div><div "
        f"style='flex:none;max-width:40%;text-align:right'>{badges}</div></div>"
    )


def _head_html(trajectory: TrajectoryLike, title: str) -> str:
    calls, turns = len(trajectory.calls), len(trajectory.turns)
    facts = " · ".join(filter(None, [trajectory.producer, f"{turns} turn{'s' * (turns != 1)}",
                                     f"{calls} call{'s' * (calls != 1)}"]))
    stopped = FINISHES[trajectory.finish]
    return (f"<div><b>{_escape(title)}</b>{' ' if title else ''}<span "
            f"style='color:#555'>{_escape(facts)}</span>"
            f"{_verdict_html(trajectory)}{_badge('✗ ' + stopped) if stopped else ''}</div>")


def _verdict_html(trajectory: TrajectoryLike) -> str:
    """A badge with the judge's verdict; on a teacher's rejected sample with the reason."""
    correct = trajectory.meta.get("correct")
    if correct is None:
        rejected = trajectory.meta.get("accepted") is False
        reason = str(trajectory.meta.get("reason", "")).replace("_", " ")
        return _badge(f"✗ not a reference: {reason}") if rejected else ""
    text = "✓ right" if correct else "✗ wrong"
    # else the finish says it
    failure = trajectory.meta.get("failure") if trajectory.finish == "eos" else None
    return _badge(f"{text} ({failure})" if failure else text, RIGHT if correct else WARN)


def _card(body: str) -> str:
    # both class names stop MathJax from typesetting the dollars of a story
    return f"<div class='tex2jax_ignore mathjax_ignore' style='{CARD}'>{body}</div>"


def _steps_html(trajectory: TrajectoryLike, title: str, names: Sequence[str] | None) -> str:
    steps = "".join(map(_step_html, _marks(trajectory, names)))
    return _head_html(trajectory, title) + (steps or "<div style='color:#555'>(no text)</div>")


def trajectory_html(trajectory: TrajectoryLike, title: str = "", *,
                    names: Sequence[str] | None = None) -> str:
    """The steps of a trajectory as HTML.

    Args:
        trajectory: whose steps to draw; `meta["correct"]` adds the verdict.
        title: shown in front, e.g. the method.
        names: known tool names; without them unknown tools are not marked (their error observation
            still is).
    """
    return _card(_steps_html(trajectory, title, names))


def _question_html(record: RecordLike) -> str:
    answers = " or ".join(record.problem.answers)
    return (f"<div style='margin-bottom:2px'>{_folded(record.problem.question)}</div>"
            f"<div style='margin-bottom:4px'><span style='color:#555'>reference answer</span> "
            f"<span style='{MONO}'>{_escape(answers)}</span>"
            f"<span style='color:#555'> · {_escape(record.problem.id)}</span></div>")


def record_html(record: RecordLike, title: str = "") -> str:
    """Question, reference answer, verdict (where `meta` has one), the steps, and the folded
    reference trajectory."""
    names = _known_names(record.problem)
    body = _question_html(record) + _steps_html(record.trajectory, title, names)
    if record.reference is not None:
        body += ("<details style='margin-top:4px'><summary "
                 "style='cursor:pointer;color:#555'>reference trajectory"
                 f"</summary>{_steps_html(record.reference, '', names)}</details>")
    return _card(body)


def side_by_side(items: Sequence[tuple[str, RecordLike | TrajectoryLike]]) -> Html:
    """Titled records or trajectories next to each other (below each other on a narrow page).
    Records of one problem share one question on top."""
    records = [item for _, item in items if hasattr(item, "trajectory")]
    shared = len(records) == len(items) > 0 and len({r.problem.id for r in records}) == 1
    top = _card(_question_html(records[0])) if shared else ""
    cells = (f"<div style='flex:1 1 18em;min-width:0'>{_cell_html(title, item, shared)}</div>"
             for title, item in items)
    return Html(f"<div style='max-width:112em'>{top}<div "
                "style='display:flex;flex-wrap:wrap;gap:8px;"
                f"align-items:flex-start'>{''.join(cells)}</div></div>")


def _cell_html(title: str, item: RecordLike | TrajectoryLike, shared: bool) -> str:
    if hasattr(item, "steps"):
        return trajectory_html(item, title)
    if shared:
        return trajectory_html(item.trajectory, title, names=_known_names(item.problem))
    return record_html(item, title)


def trajectory_text(trajectory: TrajectoryLike, *, names: Sequence[str] | None = None) -> str:
    """The steps as plain text, one label a step, for terminals and logs."""
    lines = []
    for mark in _marks(trajectory, names):
        label = f"[{mark.label}] ".ljust(5)
        text = clean(_cut(mark.text)).replace("\n", "\n" + " " * len(label))
        lines.append(label + text + "".join(f"  !! {t}" for t in mark.troubles))
    stopped = FINISHES[trajectory.finish]
    return "\n".join(lines + ([f"!! {stopped}"] if stopped else []))


def record_text(record: RecordLike) -> str:
    """Question, reference answer, verdict and steps as plain text."""
    correct = record.trajectory.meta.get("correct")
    verdict = {None: "", True: "  (right)", False: "  (wrong)"}[correct]
    return "\n".join([clean(record.problem.question),
                      f"reference answer: {clean(' or '.join(record.problem.answers))}{verdict}",
                      trajectory_text(record.trajectory, names=_known_names(record.problem))])


def show(*items: RecordLike | TrajectoryLike | Html) -> None:
    """Show records, trajectories or pictures: as HTML in a notebook, as text anywhere else."""
    ipython = sys.modules.get("IPython")  # only a running notebook has it imported
    in_notebook = ipython is not None and ipython.get_ipython() is not None
    for item in items:
        if in_notebook:
            ipython.display.display(item)
        elif hasattr(item, "trajectory"):
            print(record_text(item))
        else:
            print(trajectory_text(item) if hasattr(item, "steps") else item)
