"""Tests run offline, on one thread, and never write into the repository's results/."""

from __future__ import annotations

import os
import signal

# started in the background a suite ignores Ctrl-C, its children too
signal.signal(signal.SIGINT, signal.default_int_handler)
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MENTOR_KIT_QUIET"] = "1"
