"""A thread of this process that runs coroutines, for callers without an event loop or in one that
may not wait (Jupyter's)."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any


@cache
def background_loop() -> asyncio.AbstractEventLoop:
    """The loop of the thread; both are started at the first need."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="mentor-kit-async", daemon=True).start()
    return loop


os.register_at_fork(after_in_child=background_loop.cache_clear)  # threads stay with the parent


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
