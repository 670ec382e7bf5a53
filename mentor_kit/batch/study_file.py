"""Reading a study's YAML: merged over what it extends, with the file and line of every entry kept
for messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mentor_kit.errors import UserError


@dataclass
class SourceMap:
    """Where each entry of a merged study was written."""

    file: str
    places: dict[tuple[str, ...], str] = field(default_factory=dict)

    def put(self, path: tuple[str, ...], place: str) -> None:
        self.places[path] = place

    def where(self, *path: str) -> str:
        """file:line of the entry, or of the nearest entry above it."""
        path = tuple(map(str, path))
        return next((self.places[path[:n]] for n in range(len(path), 0, -1)
                     if path[:n] in self.places), self.file)


def load_study_file(file: Path) -> tuple[dict[str, Any], SourceMap]:
    """The content of a study file with `extends` and `use` resolved.

    Raises:
        UserError: no such file, not YAML, a key written twice, files that extend each other in a
            circle.
    """
    source = SourceMap(str(file))
    return _load(file, source, ()), source


def _load(file: Path, source: SourceMap, above: tuple[Path, ...], asked: str = "") -> dict[str,
                                                                                           Any]:
    if file.resolve() in above:
        raise UserError(
            f"{file}: the studies extend each other in a circle; remove one `extends:`."
        )
    own = SourceMap(str(file))
    data = read_yaml(file, own, asked)
    extends, fragments = _parents(data, own)
    base: dict[str, Any] = {}
    if extends:
        base = _load(file.parent / extends, source, (*above, file.resolve()), own.where("extends"))
    for fragment in fragments:
        place = SourceMap(str(fragment))
        base.setdefault("fixed", {}).update(read_yaml(file.parent / fragment, place,
                                                      own.where("use")))
        source.places.update({("fixed", *path): at for path, at in place.places.items()})
    source.places.update(own.places)
    return merge(base, data, own)


def _parents(data: dict[str, Any], source: SourceMap) -> tuple[str, list[str]]:
    """Take `extends` and `use` out of a study."""
    extends, fragments = data.pop("extends", ""), data.pop("use", [])
    if not isinstance(extends, str):
        raise UserError(f"{source.where('extends')}: `extends:` = {extends!r} must name one study: "
                        "other.yaml.")
    if not isinstance(fragments, list) or not all(isinstance(f, str) for f in fragments):
        raise UserError(f"{source.where('use')}: `use:` = {fragments!r} must be a list of files: "
                        "[students/tiny.yaml].")
    return extends, fragments


def merge(base: Any, over: Any, source: SourceMap, path: tuple[str, ...] = ()) -> Any:
    """`over` laid on `base`: mappings merge, null removes an inherited entry, anything else
    replaces.

    Raises:
        UserError: a null where nothing is inherited, or for a whole section.
    """
    if not isinstance(over, dict):
        return over
    merged = dict(base) if isinstance(base, dict) else {}
    for key, value in over.items():
        where = source.where(*path, key)
        if value is None and not path:
            raise UserError(f"{where}: `{key}:` is empty; delete the line, or remove single "
                            "entries by `entry: null`.")
        if value is None and key not in merged:
            raise UserError(f"{where}: {key!r} is empty or null, and nothing of that name is "
                            "inherited that this would remove; delete the line or give it a value.")
        if value is None:
            del merged[key]
        else:
            merged[key] = merge(merged.get(key), value, source, (*path, str(key)))
    return merged


def read_yaml(file: Path, source: SourceMap, asked: str = "") -> dict[str, Any]:
    """A YAML mapping; `source` is told the line of each entry. `asked`: the place that names the
    file."""
    import yaml

    if not file.is_file():
        known = (", ".join(sorted(p.name for p in file.parent.glob("*.yaml")))
                 if file.parent.is_dir() else "")
        raise UserError(f"{asked + ': t' if asked else 'T'}here is no study file {str(file)!r}"
                        f"{f'; {file.parent}/ has {known}' if known else ''}.")
    try:
        text = file.read_text(encoding="utf-8-sig")
        _note_lines(yaml.compose(text, Loader=yaml.SafeLoader), file, source, ())
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{file}{line}: not valid YAML ({getattr(error, 'problem', error)}); check "
                        "the indentation and the brackets there.") from error
    except UserError:
        raise
    except (ValueError, RecursionError, OSError) as error:  # bytes, dates, anchors
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"{file}: cannot be read ({reason}); write it as UTF-8, with plain values "
                        "and without an anchor inside itself.") from error
    if not isinstance(data, dict):
        raise UserError(f"{file}: a study is a mapping such as `name: demo`, found "
                        f"{type(data).__name__}.")
    return data


def _note_lines(node: Any, file: Path, source: SourceMap, path: tuple[str, ...]) -> None:
    import yaml

    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            shown = key.value if isinstance(key, yaml.ScalarNode) else "a list or a mapping"
            raise UserError(f"{file}:{line}: the name {shown} is not a text; write a name, in "
                            "quotes where it could be read as something else.")
        if key.value in seen:
            raise UserError(f"{file}:{line}: {key.value!r} is written twice (first in line "
                            f"{seen[key.value]}); delete one.")
        seen[key.value] = line
        source.put((*path, key.value), f"{file}:{line}")
        _note_lines(value, file, source, (*path, key.value))
