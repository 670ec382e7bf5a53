"""MENTOR kit: distil tool use from a teacher into a small language model by reinforcement learning.

    import mentor_kit as mk

    reward = mk.load_reward("mentor")            # a preset, a YAML file, or a function of yours
    student = mk.load_student("results/demo/train/KEY/student")
    record = student.ask("What is 3 plus 4?")    # reasoning, tool calls, results, answer
    mk.show(record)

The names below are the ones a notebook needs. Each is loaded when it is first used, so importing
the package is cheap, and torch is loaded only by what needs a student.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

FACE = {
    "Problem": "core.problem", "Toolbox": "core.toolbox", "load_toolbox": "core.toolbox",
    "Trajectory": "core.trajectory", "Turn": "core.trajectory",
    "Record": "core.records", "load_records": "core.records", "save_records": "core.records",
    "show": "core.html", "side_by_side": "core.html",
    "final_answer": "judging.judge", "judge": "judging.judge",
    "load_problems": "problems", "load_teacher": "teachers", "load_reward": "rewards",
    "load_student": "students.student", "Sampling": "students.rollout",
    "load_run": "runs.open", "load_collection": "collection.collection",
    "load_results": "analysis.frame",
}
__all__ = [*FACE, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in FACE:
        raise AttributeError(f"module 'mentor_kit' has no attribute {name!r}; it offers "
                             f"{', '.join(sorted(FACE))}")
    value = globals()[name] = getattr(import_module(f"mentor_kit.{FACE[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *FACE])
