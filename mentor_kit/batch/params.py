"""The parameters a notebook declares, and values checked against them before anything runs.

A notebook declares flat, annotated scalars and lists in its one `parameters` cell; papermill's
inspection reads them. Types: bool, int, float, str, list, list[int], list[float], list[str];
without an annotation, the default's.
"""

from __future__ import annotations

import ast
import io
import logging
import math
import re
import sys
import warnings
from collections.abc import Iterable
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mentor_kit.errors import UserError

SCALARS = {"bool": bool, "int": int, "float": float, "str": str}
SHAPES = {str: 'a text, in quotes where it could be read as something else: "text"',
          dict: "a mapping: {name: value}",
          list: "a list: [value]"}  # of a study's sections, for messages
LIST = re.compile(r"(?:list|List)(?:\[(\w+)\])?$")


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: `kind` is bool, int, float, str, list or list[...]."""

    name: str
    kind: str
    default: Any
    help: str = ""


def declared_parameters(notebook: Path | str) -> dict[str, Parameter]:
    """Name -> Parameter of a notebook, as papermill sees them.

    Raises:
        UserError: no such notebook, no parameters, or a default that is not a literal.
    """
    node = read_notebook(notebook)
    from papermill.inspection import _infer_parameters

    with redirect_stderr(io.StringIO()):
        found = _infer_parameters(node, "python3", "python")
    return {entry.name: _parameter(entry.name, entry._asdict(), notebook) for entry in found}


def read_notebook(path: Path | str) -> Any:
    """A notebook as papermill takes it, whatever kernel, version or byte order mark its file has.

    Raises:
        UserError: no such file, or it is not a notebook.
    """
    import_papermill()
    import nbformat
    from papermill.iorw import load_notebook_node

    if not Path(path).is_file():
        raise UserError(f"There is no notebook {str(path)!r}: name one of the files under "
                        "notebooks/.")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        return load_notebook_node(nbformat.reads(text, as_version=4))
    except (ValueError, KeyError, TypeError, AttributeError, nbformat.ValidationError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise UserError(f"{path}: not a notebook ({reason}); open it in JupyterLab, or restore "
                        "it.") from error


def import_papermill() -> ModuleType:
    """papermill, without its warnings and notes, and imported in a third of the time.

    Most of that time jsonschema, where `rfc3987_syntax` is installed, compiles a grammar of IRIs
    for a format that no notebook uses; an import of it that fails is one it is prepared for.
    """
    sys.modules.setdefault("rfc3987_syntax", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import papermill
    logging.getLogger("papermill").setLevel(logging.ERROR)
    return papermill


def _parameter(name: str, entry: dict[str, str], notebook: Path | str) -> Parameter:
    try:
        default = ast.literal_eval(entry["default"])
    except (ValueError, SyntaxError) as error:
        raise UserError(f"{notebook}: the default of parameter {name!r} is {entry['default']!r}, "
                        "not a literal; write a number, a string, True, False or a "
                        "list.") from error
    annotation = entry["inferred_type_name"]
    kind = (type(default).__name__ if annotation in ("None", "", None)
            else annotation.replace("List", "list"))
    if kind not in SCALARS and not LIST.match(kind):
        raise UserError(f"{notebook}: parameter {name!r} is annotated {kind!r}; use bool, int, "
                        "float, str or a list.")
    return Parameter(name, kind, default, entry.get("help", ""))


def check_value(parameter: Parameter, value: Any, where: str) -> Any:
    """The value in the parameter's type (an int given for a float becomes a float).

    Raises:
        UserError: wrong type; the message starts with `where` (file:line) and ends with the fix.
    """
    listed = LIST.match(parameter.kind)
    if not listed:
        return _check_scalar(parameter.name, parameter.kind, value, where)
    if not isinstance(value, list):
        raise UserError(f"{where}: {parameter.name} = {value!r} must be a {parameter.kind}; write "
                        f"[{value}].")
    return [_check_scalar(parameter.name, listed[1], item,
                          where) for item in value] if listed[1] else value


def _check_scalar(name: str, kind: str, value: Any, where: str) -> Any:
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind == "float" and isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: {name} = {value!r} is not a finite number; give one.")
    if type(value) is SCALARS.get(kind):
        return value
    raise UserError(f"{where}: {name} = {value!r} is of type {type(value).__name__}, not {kind}; "
                    f"{_fix(kind, value)}.")


def _fix(kind: str, value: Any) -> str:
    if kind == "str":
        return f'put it in quotes: "{value}"'
    if kind == "bool":
        return "write true or false"
    try:
        number = float("" if isinstance(value, bool) else value)
    except (TypeError, ValueError):
        return f"give {'a whole number' if kind == 'int' else 'a number'}"
    if kind == "int":
        return f"write {int(number)}" if number.is_integer() else "give a whole number"
    return f"write {yaml_float(number)}"  # YAML 1.1 reads 1e-6, without a point, as a string


def yaml_float(number: float) -> str:
    """A float as YAML reads it back: 1.0e-06 rather than Python's 1e-06."""
    text = repr(number)
    mantissa, e, exponent = text.partition("e")
    if not e:
        return text
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
    return f"{mantissa}e{exponent[0]}{exponent[1:].lstrip('0')}"


def from_text(text: str, kinds: Iterable[str]) -> Any:
    """A command line's value: YAML, except that a str parameter takes the text as it is and a float
    takes 1e-6."""
    import yaml

    kinds = set(kinds)
    if kinds == {"str"}:
        return text
    try:
        value = yaml.safe_load(text)
        return float(value) if isinstance(value, str) and kinds & {"float"} else value
    except (yaml.YAMLError, ValueError):
        return text
