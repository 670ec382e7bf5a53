"""One job of a batch: one papermill execution in a process of its own.

    python -m mentor_kit.batch.job RUN_FOLDER PROJECT_ROOT PARENT_PID

The run folder's `cell.json` says what to run. Everything else in the folder is written under its
lock, by one job
and its kernel at a time: a job that finds another at work there waits, and if that one ends it, so
does this. While it runs, papermill saves `notebook.partial.ipynb`; at the end this becomes
`notebook.ipynb`, without times and paths, and `FAILED` names the cause if there is one. A job is
done when DONE is whole and `notebook.ipynb` stands beside it without FAILED.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from mentor_kit.batch.kernel import ForkedKernel, fork_kernel
from mentor_kit.batch.params import import_papermill, read_notebook
from mentor_kit.core.processes import die_with_parent, name_process
from mentor_kit.errors import UserError
from mentor_kit.runs.files import read_json, write_atomic
from mentor_kit.runs.locks import JOB_BYTE, acquire_lock
from mentor_kit.runs.open import load_run
from mentor_kit.runs.run import Run

START_TIMEOUT = 120  # seconds for a kernel to answer on a loaded machine
# seconds for an orphan on a lost node to be ended, and for shared storage to free its lock
LOCK_TIMEOUT = 180
LOCKED = 75  # exit code (sysexits' EX_TEMPFAIL): the lock was not to be had
FULL = 74  # exit code (EX_IOERR): nothing more could be written
NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


def main() -> None:
    run_dir, root, parent = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    die_with_parent(parent)
    sys.exit(run(run_dir.resolve(), root.resolve()))


def run_forked(run_dir: Path, root: Path) -> int:
    """The job in a process that the fork server forked; its kernel is a fork too."""
    log = os.open(run_dir / "cell.log", os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    return run(run_dir, root, fork=True)


def run(run_dir: Path, root: Path, fork: bool = False) -> int:
    """Execute the notebook under the run folder's lock. Returns the exit code."""
    name_process("mentor-job")
    lock = acquire_lock(run_dir / ".lock", LOCK_TIMEOUT, JOB_BYTE)
    if lock is None:
        return LOCKED
    if job_state(run_dir)[0] == "done":  # ended by another while this one waited
        return 0
    reset(run_dir)
    started = time.perf_counter()
    request = json.loads((run_dir / "cell.json").read_text(encoding="utf-8"))
    kernel = fork_kernel() if fork else None
    try:
        cause = execute(request, run_dir, root, kernel)
        Run(run_dir, request["stage"], request["key"]).log_time("job",
                                                                time.perf_counter() - started)
        return 0 if finalize(run_dir, cause) is None else 1
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        return FULL


def execute(request: dict[str, Any], run_dir: Path, root: Path,
            kernel: ForkedKernel | None) -> str | None:
    """Run the notebook. Returns None, or why it could not be run to its end (an exception in it is
    in the notebook)."""
    papermill = import_papermill()
    from nbclient.exceptions import DeadKernelError

    # papermill fills braces in
    output = re.sub(r"([{}])", r"\1\1", str(run_dir / "notebook.partial.ipynb"))
    for again in (True, False):
        try:
            papermill.execute_notebook(
                read_notebook(root / request["notebook"]), output,
                parameters=request["parameters"], kernel_name="python3", language="python",
                cwd=str(root),
                progress_bar=False, log_output=False, start_timeout=START_TIMEOUT,
                kernel_manager_class=_kernel_manager(run_dir / ".lock", kernel))
        except papermill.PapermillExecutionError:
            return None
        except DeadKernelError:
            return "the kernel died (killed, or out of memory)"
        except RuntimeError as error:
            # "died" or "did not respond" at its start: ports, load
            if again and str(error).startswith("Kernel d"):
                kernel = None
                continue
            return f"the kernel did not start: {error}; see cell.log"
        return None


def _kernel_manager(lock: Path, forked: ForkedKernel | None) -> type:
    """A manager whose kernel is ours, whatever `python3` kernels are installed for the user."""
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    argv = [sys.executable, "-m", "mentor_kit.batch.kernel", str(lock), "--log-level=40", "-f",
            "{connection_file}"]

    class JobKernelManager(AsyncKernelManager):
        kernel_spec = KernelSpec(argv=argv, display_name="Python 3 (ipykernel)", language="python")

        async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
            if forked is None:
                return await super()._async_launch_kernel(kernel_cmd, **options)
            forked.launch(kernel_cmd[2:])
            self.provisioner.process, self.provisioner.pid = forked, forked.pid
            self.provisioner.pgid = forked.pid

    return JobKernelManager


def finalize(run_dir: Path, cause: str | None) -> str | None:
    """Make the partial notebook the run's notebook and record a failure. Returns its cause, None if
    the job is done.

    `cause` overrides what the notebook and DONE say: the kernel died, the time limit, a signal.
    """
    cause = cause or _exception(run_dir) or _incomplete(run_dir)
    # before the notebook is in place: a kill in between must not leave a job that looks done
    if cause:
        write_atomic(run_dir / "FAILED", json.dumps({"cause": cause}, ensure_ascii=False) + "\n")
    partial = run_dir / "notebook.partial.ipynb"
    if partial.is_file():
        write_atomic(run_dir / "notebook.ipynb",
                     clean_notebook(partial.read_text(encoding="utf-8")))
        partial.unlink()
    return cause


def _exception(run_dir: Path) -> str | None:
    partial = run_dir / "notebook.partial.ipynb"
    try:
        notebook = json.loads(partial.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "the notebook was not executed; see cell.log"
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                return f"{output['ename']}: {output['evalue']}".strip().splitlines()[0]
    return None


def _incomplete(run_dir: Path) -> str | None:
    try:
        load_run(run_dir)
    except UserError as error:
        done = (run_dir / "DONE").is_file()
        return str(error) if done else "the notebook ended without run.finish()"
    return None


def clean_notebook(text: str) -> str:
    """An executed notebook without what differs between equal runs: times, paths, random cell
    ids."""
    notebook: dict[str, Any] = json.loads(text)
    notebook["metadata"].pop("papermill", None)
    for number, cell in enumerate(notebook["cells"]):
        cell["metadata"].pop("papermill", None)
        cell["metadata"].pop("execution", None)
        cell["id"] = f"cell-{number}"
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def reset(run_dir: Path) -> None:
    """Forget the last attempt's verdict, so that the run continues; its artefacts and checkpoints
    stay."""
    for name in ("notebook.ipynb", "notebook.partial.ipynb", "FAILED", "DONE"):
        (run_dir / name).unlink(missing_ok=True)


def job_state(run_dir: Path) -> tuple[str, str]:
    """("done" | "failed" | "waiting", cause of the failure)."""
    if failure := read_json(run_dir / "FAILED"):  # a damaged one is none: the job runs again
        return "failed", str(failure.get("cause"))
    if not _has_end(run_dir / "notebook.ipynb") or not (run_dir / "DONE").is_file():
        return "waiting", ""
    try:
        load_run(run_dir)
    except UserError:
        return "waiting", ""
    return "done", ""


def _has_end(notebook: Path) -> bool:
    """Whether the executed notebook is there, and not cut."""
    try:
        with open(notebook, "rb") as file:
            file.seek(max(notebook.stat().st_size - 8, 0))
            return file.read().rstrip().endswith(b"}")
    except OSError:
        return False


if __name__ == "__main__":
    sys.stdout.flush()
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    main()
