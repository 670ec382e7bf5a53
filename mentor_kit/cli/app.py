"""The command line: `mentor-kit init|collect|score|train|evaluate|batch|status|figures|serve|push|
export|doctor`.

Importing this module is cheap; each command imports what it needs. A UserError becomes one line on
stderr and exit code 2; a batch with jobs that are not done exits with 1.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated

import typer

from mentor_kit.cli.batch import COLLECT, run_study
from mentor_kit.cli.options import (
    DryRun,
    Results,
    RetryFailed,
    Set,
    StudyFile,
    Subset,
    TimeLimit,
    Workers,
    commands,
)
from mentor_kit.errors import UserError


def app() -> None:
    """Entry point of the console script."""
    import sys

    # a reward, toolbox or source named package.module:name lies beside the user
    sys.path.insert(0, str(Path.cwd()))
    try:
        commands()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"error: no space left on the device of {error.filename or 'the results'}: make "
              "room, then run the same command again.", file=sys.stderr)
        sys.exit(2)


@commands.command()
def init(folder: Annotated[Path, typer.Argument(help="the new project's folder")] = Path(".")
         ) -> None:
    """Write the notebooks and the studies into a folder, to work there without a clone."""
    from mentor_kit.cli.init import write_project

    print(f"{len(write_project(folder))} files written to {folder}/notebooks and {folder}/params; "
          "run `mentor-kit batch params/demo.yaml` there, or open the notebooks in JupyterLab")


@commands.command()
def batch(
    study: StudyFile,
    workers: Workers = None,
    dry_run: DryRun = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help="stages, separated by commas; what they need runs too; repeatable"),
    ] = None,
    retry_failed: RetryFailed = False,
    results: Results = None,
    set_: Set = None,
    time_limit: TimeLimit = None,
    subset: Subset = "",
    executor: Annotated[
        str, typer.Option(help="local (this machine) or ray (a cluster that is up)")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of the Ray cluster (default: RAY_ADDRESS, else this machine's)"
        ),
    ] = None,
) -> None:
    """Run a study: all its notebooks, for every method and seed; continues where it was stopped."""
    run_study(study, results, set_, workers, dry_run, retry_failed, time_limit, subset, only=only,
               executor=executor,
               address=address)


@commands.command()
def collect(study: StudyFile, workers: Workers = None, dry_run: DryRun = False,
            retry_failed: RetryFailed = False,
            results: Results = None, set_: Set = None, time_limit: TimeLimit = None,
            subset: Subset = "") -> None:
    """Collect the teacher's trajectories of a study (notebook 01)."""
    run_study(study, results, set_, workers, dry_run, retry_failed, time_limit, subset,
               notebook=COLLECT)


@commands.command()
def train(file: Annotated[Path,
                          typer.Argument(metavar="STUDY.yaml|PARAMS.yaml",
                                         help="a study: its students; a flat file "
                                               "of notebook 03's parameters: one run")],
          workers: Workers = None, dry_run: DryRun = False, retry_failed: RetryFailed = False,
          results: Results = None,
          set_: Set = None, time_limit: TimeLimit = None, subset: Subset = "",
          run_dir: Annotated[Path | None, typer.Option(help="folder of one run (default: "
                                                            "results/interactive)")] = None,
          part_of_notebook: Annotated[bool,
                                      typer.Option("--part-of-notebook",
                                                   hidden=True)] = False) -> None:
    """Train the students of a study (notebook 03) after what they need, or one run from a file of
    parameters."""
    from mentor_kit.batch.study_file import SourceMap, read_yaml
    from mentor_kit.runs.parameters import parse_settings

    params = read_yaml(file, SourceMap(str(file)))
    for_study = {"--workers": workers, "--dry-run": dry_run, "--retry-failed": retry_failed,
                 "--results": results,
                 "--time-limit": time_limit, "--subset": subset}
    if {"name", "stages", "extends"} & params.keys():
        if run_dir is not None:
            raise UserError(f"--run-dir is for a file of parameters; {str(file)!r} is a study and "
                            "takes --results.")
        return run_study(file, results, set_, workers, dry_run, retry_failed, time_limit, subset,
                          notebook="03_rl_training")
    ignored = [option for option, value in for_study.items() if value]
    if ignored:
        raise UserError(f"{', '.join(ignored)}: for a study only; a file of parameters takes "
                        "--run-dir and --set.")
    from mentor_kit.cli.train import train_file

    train_file(params | parse_settings(set_ or [], "--set"), run_dir,
               part_of_notebook=part_of_notebook)


@commands.command()
def evaluate(
    target: Annotated[
        str,
        typer.Argument(
            metavar="STUDY.yaml|CHECKPOINT|teacher:NAME",
            help="a study: its students; a model's folder or hub id, or a teacher: on BENCHMARKs",
        ),
    ],
    benchmarks: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BENCHMARK]...", help="name, name:split,split or a YAML file"),
    ] = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    retry_failed: RetryFailed = False,
    results: Results = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="name=value of notebook 04's parameters; repeatable"),
    ] = None,
    time_limit: TimeLimit = None,
    subset: Subset = "",
    teacher_option: Annotated[list[str] | None, typer.Option(help="name:value; repeatable")] = None,
    name: Annotated[str, typer.Option(help="its row in tables")] = "",
    backend: Annotated[str, typer.Option(help="auto, transformers or unsloth")] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="the run's folder (default: results/interactive)")
    ] = None,
) -> None:
    """Evaluate a study's students (notebook 04), or any checkpoint or teacher on a list of
    benchmarks."""
    if not benchmarks and target.endswith((".yaml", ".yml")):
        return run_study(Path(target), results, set_, workers, dry_run, retry_failed, time_limit,
                          subset,
                          notebook="04_evaluation")
    if (
        dry_run
        or retry_failed
        or subset
        or workers is not None
        or time_limit is not None
        or results is not None
    ):
        raise UserError("--dry-run, --workers, --retry-failed, --subset, --time-limit and "
                        "--results are for a study; a checkpoint or a teacher takes --out and "
                        "--set.")
    from mentor_kit.cli.evaluate import evaluate_target, print_report
    from mentor_kit.evaluation.config import EvaluateConfig
    from mentor_kit.runs.parameters import configure, parse_settings

    config = configure(EvaluateConfig, benchmarks=benchmarks or [],
                       **parse_settings(set_ or [], "--set"))
    print_report(*evaluate_target(target, config, method=name, teacher_options=teacher_option or [],
                                  backend=backend,
                                  out=out))


@commands.command()
def status(study: StudyFile, results: Results = None, set_: Set = None,
           subset: Subset = "") -> None:
    """Show a study as a table: done, running, failed with the last error line, waiting; and its
    disk."""
    from mentor_kit.batch.display import status as show_status
    from mentor_kit.batch.study import load_study

    show_status(load_study(study, overrides=set_ or (), results=results, subset=subset))


@commands.command()
def score(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN.jsonl|IN.parquet",
            help="lines with response, ground_truth, teacher_tools; others pass through",
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT.jsonl|OUT.parquet",
            help="the same lines with score and terms, which are replaced where a line has them",
        ),
    ],
    preset: Annotated[
        str, typer.Option(help="reward preset, YAML file or package.module:name")
    ] = "mentor",
    toolbox: Annotated[
        str | None, typer.Option(help="package.module:name (default: the 12 tools)")
    ] = None,
    eos: Annotated[
        str,
        typer.Option(
            help="end token of a response; one that does not end with it counts as cut off "
            "and gets what the reward's gate gives, however right its box is"
        ),
    ] = "<|im_end|>",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="leave out lines that cannot be read")
    ] = False,
) -> None:
    """Score stored responses with a reward."""
    from mentor_kit.cli.score import score_file

    print(score_file(preset, source, target, toolbox=toolbox, eos=eos, skip_bad=skip_bad))


@commands.command()
def figures(results: Annotated[Path, typer.Argument(help="a study's results, such as "
                                                         "results/demo")],
            out: Annotated[Path | None, typer.Option(help="folder to write (default: "
                                                          "RESULTS/paper)")] = None) -> None:
    """Make the paper's figures, tables and numbers from stored results."""
    from mentor_kit.analysis.report import write_report

    if not results.is_dir():
        raise UserError(f"There is no folder {str(results)!r}; run `mentor-kit batch` "
                        "with its study first.")
    target = out or results / "paper"
    write_report(results, target)
    print(f"written: {target}")


@commands.command()
def doctor() -> None:
    """Report backend, versions, devices, threads and offline state."""
    from mentor_kit.cli.doctor import report

    report()


@commands.command()
def serve(run: Annotated[str, typer.Argument(help="a training run's folder, or a student's")],
          host: str = "127.0.0.1", port: int = 8000,
          engine: Annotated[str, typer.Option(help="auto, transformers or vllm")] = "auto",
          parser: Annotated[str, typer.Option(help="vLLM's parser of the student's calls, where "
                                                   "they are not Hermes")] = "") -> None:
    """Serve a student as an OpenAI-compatible endpoint, tools included."""
    from mentor_kit.cli import publish

    publish.serve(run, host, port, engine, parser)


@commands.command()
def push(run: Annotated[str, typer.Argument(help="a training run, a student, or a collection")],
         repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="on the hub")],
         private: bool = False,
         dry_run: Annotated[bool, typer.Option("--dry-run", help="only list the files")] = False
         ) -> None:
    """Upload a student or a collection's data set with its card to the hub."""
    from mentor_kit.cli import publish

    print(publish.push(run, repo, private=private, dry_run=dry_run))


@commands.command()
def export(run: Annotated[str, typer.Argument(help="a training run's folder, or a student's")],
           gguf: Annotated[Path, typer.Option(help="the GGUF file to write")]) -> None:
    """Convert a student for llama.cpp."""
    from mentor_kit.cli import publish

    print(f"written: {publish.export_gguf(run, gguf)}")
