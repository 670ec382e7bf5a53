"""The program of a sandbox: `python confined.py filtered|limited HANDLERS.py ARGUMENT ...`, lines
of JSON.

It stands alone: it imports nothing of the kit, so that nothing of the kit is in its memory.
HANDLERS.py defines `start(*arguments)`, which reads all that the requests will need and gives
{operation: function of a request}, and may define `prepare(request)`.

Each request is answered by a forked child that starts from the same clean state and can do nothing
but compute: no file, socket or process is opened, and it is ended by the kernel when it has used up
its CPU time. On Linux a system call filter (seccomp) forbids everything else: signals to other
processes, their memory, names, devices; `filtered` refuses to work without it. What the child
writes back is data, whoever wrote it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import resource
import select
import signal
import struct
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

MEMORY_BYTES = 1 << 30
MAX_REPLY = 4 << 20  # bytes
# what Python needs to compute, on x86_64 and aarch64: read, write, close, mmap, mprotect, munmap,
# brk, rt_sigaction, rt_sigprocmask, rt_sigreturn, sched_yield, mremap, madvise, getpid, exit,
# gettimeofday, sigaltstack, futex, clock_gettime, clock_getres, exit_group, restart_syscall,
# getrusage, times; and on x86_64 time
ALLOWED = {"x86_64": (0xC000003E, (0, 1, 3, 9, 10, 11, 12, 13, 14, 15, 24, 25, 28, 39, 60, 96, 131,
                                   202, 228, 229, 231, 219, 98, 100, 201)),
           "aarch64": (0xC00000B7, (63, 64, 57, 222, 226, 215, 214, 134, 135, 139, 124, 216, 233,
                                    172, 93, 169, 132, 98, 113, 114, 94, 128, 165, 153))}
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # instructions of the filter
ALLOW, FORBID, KILL = 0x7FFF0000, 0x00050000 | 1, 0x80000000  # FORBID: EPERM
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER_MODE = 38, 22, 2


def filter_program(machine: str) -> bytes:
    """The filter for a machine: a system call that is not in the list is not permitted.

    Raises:
        KeyError: we know no list for it.
    """
    architecture, calls = ALLOWED[machine]
    steps = [(LOAD, 0, 0, 4), (JUMP_IF_EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL),
             (LOAD, 0, 0, 0)]
    steps += [(JUMP_IF_EQUAL, len(calls) - i, 0, call) for i, call in enumerate(calls)]
    steps += [(RETURN, 0, 0, FORBID), (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def filter_calls() -> None:
    """Forbid this process all system calls but those of the list, for ever.

    Raises:
        OSError: the system has no such filter.
    """
    if sys.platform != "linux" or os.uname().machine not in ALLOWED:
        raise OSError("no filter of system calls for this system")
    program = ctypes.create_string_buffer(filter_program(os.uname().machine))
    header = struct.pack("HP", len(program) // 8, ctypes.addressof(program))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for values in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, FILTER_MODE, header, 0, 0)):
        if prctl(*values):
            raise OSError(ctypes.get_errno(), "the filter of system calls is refused")


def has_filter() -> bool:
    """Whether this system filters system calls, tried in a child."""
    child = os.fork()
    if child == 0:
        try:
            filter_calls()
            os.kill(os.getppid(), 0)
        except PermissionError:
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def confine(seconds: int) -> None:
    """From here on: so many CPU seconds and MEMORY_BYTES, no file written, no file, socket or
    process opened; and where the system has a filter, nothing but computing."""
    for kind, value in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, MEMORY_BYTES),
                        (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NOFILE, 0),
                        (resource.RLIMIT_NPROC, 0), (resource.RLIMIT_CORE, 0)):
        try:
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError):  # macOS knows no RLIMIT_AS; the others still hold
            continue
    if FILTERED:
        filter_calls()


FILTERED = False


def answer(functions: dict[str, Callable[..., Any]], line: dict[str, Any]) -> dict[str, Any]:
    """The reply to one request; `{"failure": "timeout" | "memory" | "crash" | "long"}` where the
    child gave none."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _answer_and_exit(functions, line, writer)
    os.close(writer)
    reply = _read(reader, line["wall"])
    os.close(reader)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if len(reply) > MAX_REPLY:
        return {"failure": "long"}
    try:
        found = json.loads(reply) if reply.endswith(b"\n") else None
    except (ValueError, RecursionError):  # not written by us
        found = None
    if isinstance(found, dict) and "error" not in found:
        return found
    late = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
    return {"failure": "timeout" if late and not reply else "crash"}


def _answer_and_exit(functions: dict[str, Callable[..., Any]], line: dict[str, Any],
                     writer: int) -> None:
    """The child: answers and ends, whatever happens."""
    try:
        os.closerange(0, writer)
        os.closerange(writer + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        confine(line["seconds"])
        reply = json.dumps(functions[line["operation"]](line))
    except MemoryError:
        reply = json.dumps({"failure": "memory"})
    except BaseException:  # noqa: BLE001 - a forked child must never return into its parent's loop
        reply = json.dumps({"failure": "crash"})
    try:
        data = memoryview((reply + "\n").encode())
        while data:
            data = data[os.write(writer, data):]
    finally:
        os._exit(0)


def _read(reader: int, seconds: float) -> bytes:
    """What the child writes until it ends, the time is over or it is too much."""
    deadline, found = time.monotonic() + seconds, b""
    while len(found) <= MAX_REPLY and select.select([reader], [], [],
                                                    max(deadline - time.monotonic(), 0))[0]:
        chunk = os.read(reader, 1 << 16)
        if not chunk:
            break
        found += chunk
    return found


def load(path: str) -> ModuleType:
    """The module of handlers."""
    spec = importlib.util.spec_from_file_location("handlers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Say that it is ready, then answer requests until stdin closes. `error` in a reply says that
    the sandbox itself is at fault."""
    global FILTERED
    out, sys.stdout = sys.stdout, sys.stderr  # what the handlers load may print
    FILTERED = has_filter()
    try:
        if sys.argv[1] == "filtered" and not FILTERED:
            raise ImportError("no filter of system calls on this system")
        handlers = load(sys.argv[2])
        functions = handlers.start(*sys.argv[3:])
    except ImportError as error:
        out.write(json.dumps({"error": str(error)}) + "\n")
        return
    out.write(json.dumps({"ready": True}) + "\n")
    out.flush()
    for text in sys.stdin:
        try:
            line = json.loads(text)
            getattr(handlers, "prepare", id)(line)  # read once, by the parent
            reply = answer(functions, line)
        except Exception as error:  # noqa: BLE001 - said to whoever asked
            reply = {"error": f"{type(error).__name__}: {error}"}
        out.write(json.dumps(reply) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
