"""Training in several processes: the notebook starts them by the engine's own launcher and follows
their metrics file.

    accelerate launch --config_file params/accelerate/ddp.yaml -m mentor_kit train FILE  # GPUs
    python -m torch.distributed.run --nproc_per_node 2 -m mentor_kit train FILE  # a CPU

(`accelerate launch --cpu --num_processes 2` silently runs one process.) Started from here the
launcher ends with its parent, and each process with its launcher, so nothing goes on training
behind a killed notebook.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import yaml

from mentor_kit.core.files import find_path, project_root
from mentor_kit.core.processes import die_with_parent
from mentor_kit.errors import UserError
from mentor_kit.runs.files import write_atomic
from mentor_kit.runs.run import SCRATCH, Run
from mentor_kit.training.bar import StepBar
from mentor_kit.training.config import TrainConfig

LOG, FAILURE, PARAMS = (f"{SCRATCH}/{name}"
                        for name in ("processes.log", "failure.json", "params.yaml"))
GRACE = 10.0  # seconds that processes get to end when the notebook is interrupted


def train_in_processes(config: TrainConfig, inputs: Mapping[str, Run], run: Run) -> None:
    """Train in `config.num_processes` child processes, which leave their results in the run.

    Raises:
        UserError: what a child process was refused.
        RuntimeError: one failed or was killed; the message is its last error line. Started again,
            it continues.
    """
    asked = config.model_dump() | {name: str(source.dir.resolve()) for name,
                                   source in inputs.items()}
    write_atomic(run.path(PARAMS), yaml.safe_dump(asked))
    run.path(FAILURE).unlink(missing_ok=True)
    command = [sys.executable, "-m", "mentor_kit.training.launch", str(os.getpid()),
               *launcher(config),
               "-m", "mentor_kit", "train", str(run.path(PARAMS)), "--run-dir", str(run.dir),
               "--part-of-notebook"]
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "MENTOR_KIT_QUIET": "1"}
    with open(run.path(LOG), "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment,
                                   start_new_session=True)
    try:
        follow(process, run, StepBar(config.total_steps, config.method))
    finally:
        stop(process)
    if process.returncode:
        raise _failure(run, process.returncode)


def launcher(config: TrainConfig) -> list[str]:
    """Module and arguments that start `config.num_processes` processes on this machine.

    Raises:
        UserError: an accelerate configuration that is not there, or on a machine without a GPU.
    """
    import torch

    if not torch.cuda.is_available():
        if config.accelerate_config:
            raise UserError(f"accelerate_config={config.accelerate_config!r} is for GPUs, and "
                            "there is none here: leave it empty, several processes on a CPU are "
                            "plain DDP.")
        return ["torch.distributed.run", "--standalone", "--nproc_per_node",
                str(config.num_processes)]
    return ["accelerate.commands.launch", "--config_file",
            str(accelerate_file(config.accelerate_config)),
            "--num_processes", str(config.num_processes), "--main_process_port", "0"]


def accelerate_file(name: str) -> Path:
    """The file in accelerate's format: `ddp`, `fsdp` or `zero3` of params/accelerate/, or a path;
    "" is ddp."""
    folder = project_root() / "params" / "accelerate"
    file = find_path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name or 'ddp'}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise UserError(f"accelerate_config={name!r}: there is no {str(file)!r}; use one of "
                        f"{known}, or the path of a YAML.")
    return file


def follow(process: subprocess.Popen[bytes], run: Run, bar: StepBar) -> None:
    """Show each new line of the run's metrics file until the process ends."""
    shown = 0
    while True:
        ended = process.poll() is not None
        rows = run.metrics()
        for row in rows[shown if shown <= len(rows) else 0:]:  # a resumed training cuts lines off
            bar.show(row)
        shown = len(rows)
        if ended:
            return bar.close()
        time.sleep(0.5)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the launcher, which ends its processes; those of a launcher that does not listen end with
    it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def note_failure(run_dir: Path, error: BaseException) -> None:
    """In a child: leave the error for the notebook. The first process to fail wins; the others fail
    of its absence."""
    lines = str(error).strip().splitlines()
    kind = "UserError" if isinstance(error, UserError) else type(error).__name__
    file = run_dir / FAILURE
    if not file.exists():
        write_atomic(file, json.dumps({"kind": kind, "message": lines[-1] if lines else ""}))


def _failure(run: Run, code: int) -> Exception:
    file, again = (run.dir / FAILURE,
                   "started again, the training continues from its last checkpoint")
    if not file.is_file():
        return RuntimeError(f"a training process was killed or did not start (exit code {code}; "
                            f"{again}; log: {run.dir / LOG}).")
    failure = json.loads(file.read_text(encoding="utf-8"))
    if failure["kind"] == "UserError":
        return UserError(failure["message"])
    return RuntimeError(f"{failure['kind']}: {failure['message']} (in a training process; {again}; "
                        f"log: {run.dir / LOG}).")


def main() -> None:
    """`python -m mentor_kit.training.launch PARENT_PID MODULE ARGUMENTS...`: run the module, end
    with the parent."""
    die_with_parent(int(sys.argv.pop(1)))
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
