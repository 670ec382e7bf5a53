"""Declared benchmarks: one small YAML each, with an integer version that is bumped when scores
would change.

    name: aime24
    version: 1
    problems: question_set                     # a problem source and its options
    options: {path: HuggingFaceH4/aime_2024, part: train, question: problem, answer: answer}
    splits: {aime24: 0}                        # the source's splits and their items; 0 is all
    toolbox: arithmetic                        # `own`: each item brings its tools
    prompt: training                           # `own`: each item brings its messages
    scorer: judge                              # one of mentor_kit.evaluation.benchmarks.scorers
    licence: ...

A benchmark of your own is a YAML file anywhere: name it by its path. Its run records what was
loaded: the resolved revision (a hub commit, a file's hash or a package's version) and a hash of the
items.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from importlib import metadata
from importlib.resources import files
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from mentor_kit.core.environment import OWN
from mentor_kit.core.files import find_path
from mentor_kit.core.problem import Problem
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.errors import UserError
from mentor_kit.evaluation.benchmarks.scorers import load_scorer
from mentor_kit.problems import bind_source
from mentor_kit.runs.files import canonical_json, write_atomic
from mentor_kit.runs.run import Run

PROVENANCE = "benchmarks.json"
# YAML reads a level or a year as a number
Name = Annotated[str, Field(min_length=1),
                 BeforeValidator(lambda v: str(v) if type(v) is int else v)]
Size = Annotated[int, Field(ge=0, strict=True)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Benchmark:
    """A declared task. See the module's docstring for the fields; `always` are splits that cannot
    be left out, `package` is the distribution that carries the items, `max_turns` replaces the
    asked number of turns (0: does not)."""

    name: Name
    version: Annotated[int, Field(ge=1, strict=True)]
    problems: Name
    splits: Annotated[dict[Name, Size], Field(min_length=1)]
    toolbox: Name
    scorer: Name
    licence: Name
    prompt: str = "training"
    options: dict[str, Any] = field(default_factory=dict)
    always: list[str] = field(default_factory=list)
    package: str = ""
    max_turns: Size = 0
    about: str = ""

    def load(self, seed: int = 0, items: int = 0, splits: Sequence[str] = ()) -> list[Problem]:
        """The items, first to last of each split; `items` > 0 is the most taken of a split.

        Raises:
            UserError: an unknown split, a source that cannot be read, or an option that it does
                not take.
        """
        sizes = {s: min(filter(None, (items, self.splits[s])), default=0)
                 for s in self.chosen(splits)}
        source = bind_source(self.problems, sizes, self.options)
        return [replace(p, split=self.split_name(p.split), toolbox=self.toolbox)
                for p in source(seed, sizes, **self.options)]

    def chosen(self, splits: Sequence[str]) -> list[str]:
        """The splits to load: the named ones (all when none is named) and those that are always
        reported.

        Raises:
            UserError: an unknown split.
        """
        unknown = [s for s in splits if s not in self.splits]
        if unknown:
            raise UserError(f"Benchmark {self.name!r} has no split {unknown[0]!r}; it has "
                            f"{', '.join(self.splits)}.")
        return [s for s in self.splits if not splits or s in splits or s in self.always]

    def split_name(self, split: str) -> str:
        """A split's name in tables: with the benchmark's, so that no other one's can be mixed
        up."""
        return split if split == self.name else f"{self.name}/{split}"

    def provenance(self, problems: Sequence[Problem]) -> dict[str, Any]:
        """What was declared and what was really loaded, for the run's benchmarks.json."""
        revisions = sorted({p.meta["revision"] for p in problems if "revision" in p.meta})
        if self.package:
            revisions.append(f"{self.package}=={metadata.version(self.package)}")
        digest = hashlib.sha256("\n".join(canonical_json(vars(p))
                                          for p in problems).encode()).hexdigest()
        return {"name": self.name, "version": self.version, "licence": self.licence,
                "source": self.problems,
                "options": dict(self.options), "toolbox": self.toolbox, "prompt": self.prompt,
                "scorer": self.scorer,
                "items": len(problems), "revisions": revisions, "items_sha256": digest}


def benchmark_names() -> tuple[str, ...]:
    """The benchmarks that come with the kit."""
    return tuple(sorted(f.name.removesuffix(".yaml") for f in _folder().iterdir()
                        if f.name.endswith(".yaml")))


def _folder() -> Any:
    return files("mentor_kit.evaluation.benchmarks")


def load_benchmark(spec: str) -> tuple[Benchmark, list[str]]:
    """A benchmark and the asked splits, from `name`, `name:split,split` or the path of a YAML file.

    Raises:
        UserError: unknown name, or a file that does not declare a benchmark.
    """
    import yaml

    name, _, splits = spec.partition(":")
    own = name.endswith((".yaml", ".yml"))
    if not own and name not in benchmark_names():
        raise UserError(f"Unknown benchmark {name!r}: use one of {', '.join(benchmark_names())}, "
                        "or a YAML file.")
    path = find_path(name) if own else _folder() / f"{name}.yaml"
    try:
        declared = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(declared, dict):
            raise TypeError("it is not a mapping of fields")
        return Benchmark(**declared), [s for s in splits.split(",") if s]
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}={first['input']!r}: {first['msg']}"
    except (OSError, TypeError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
    raise UserError(f"{str(path)!r} does not declare a benchmark ({reason}); see {__name__}.")


def write_provenance(provenance: Sequence[Mapping[str, Any]], run: Run) -> None:
    """Store what was loaded in the run's benchmarks.json."""
    write_atomic(run.path(PROVENANCE),
                 json.dumps(provenance, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def check_benchmark(spec: str) -> None:
    """Raise UserError where a benchmark, its splits, problem source, options, toolbox or scorer
    does not exist."""
    benchmark, splits = load_benchmark(spec)
    bind_source(benchmark.problems, dict.fromkeys(benchmark.chosen(splits), 0), benchmark.options)
    if benchmark.toolbox != OWN:
        load_toolbox(benchmark.toolbox)
    load_scorer(benchmark.scorer)


def check_each_once(specs: Sequence[str]) -> None:
    """Raise UserError where two of the asked benchmarks hold the same split: its answers would be
    taken for samples."""
    first: dict[str, str] = {}
    for spec in specs:
        benchmark, splits = load_benchmark(spec)
        for split in map(benchmark.split_name, benchmark.chosen(splits)):
            if split in first:
                raise UserError(f"Split {split!r} is asked twice, by {first[split]!r} and "
                                f"{spec!r}: name it once (NAME:split,split), and give every "
                                "benchmark a name of its own.")
            first[split] = spec
