"""A thread of this process that runs coroutines, for callers without an event loop or in one that
may not wait (Jupyter's)."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def background_loop() -> asyncio.AbstractEventLoop:
    """The loop of the thread; both are started at the first need."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="mentor-kit-async",
                             daemon=True).start()
        return _loop


def _forget() -> None:
    """In a forked process: threads stay with the parent."""
    global _lock, _loop
    _lock, _loop = threading.Lock(), None


os.register_at_fork(after_in_child=_forget)


def wait_for(coroutine: Coroutine[Any, Any, Any], seconds: float | None = None) -> Any:
    """What a coroutine gives, run in the background.

    Raises:
        TimeoutError: not within so many seconds; it is cancelled.
    """
    future = asyncio.run_coroutine_threadsafe(coroutine, background_loop())
    try:
        return future.result(seconds)
    except BaseException:  # late, or the caller was interrupted
        future.cancel()
        raise
