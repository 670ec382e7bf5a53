# Everything a fresh machine needs is Python 3.11 or newer and make. Each target makes .venv where it is missing.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
STAMP := .venv/installed.stamp
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
STUDY ?= params/demo.yaml

.PHONY: help demo test lint format lab bench chaos clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */\1\t/' | expand -t 10

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; install one or give its path: make PYTHON=/path/to/python" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is not Python 3.11 or newer" >&2; exit 2; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet torch==2.13.0 -c constraints.txt
	$(BIN)/python -m pip install --quiet -e '.[dev]' -c constraints.txt
	@touch $@

demo: $(STAMP)  ## run the demo study, or continue it (STUDY=params/other.yaml for another)
	$(BIN)/mentor-kit batch $(STUDY)

test: $(STAMP)  ## run the tests
	$(BIN)/python -m pytest

lint: $(STAMP)  ## check the code's style and that the notebooks carry no outputs
	$(BIN)/ruff check .
	$(BIN)/nbstripout --verify notebooks/*.ipynb

format: $(STAMP)  ## fix what ruff can fix, strip the notebooks
	$(BIN)/ruff check --fix .
	$(BIN)/nbstripout notebooks/*.ipynb

lab: $(STAMP)  ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir=. notebooks/01_teacher_trajectories.ipynb

bench: $(STAMP)  ## time what has a stated limit
	@missed=0; for script in tests/benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python "$$script" || missed=1; done; \
	exit $$missed

chaos: $(STAMP)  ## kill a study's runner and kernels at random, restart, compare
	$(BIN)/python tests/chaos.py

clean:  ## remove caches and the environment, never results/
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
