# Two commands: `make demo` runs the whole pipeline on the synthetic hospital, `make test` passes the suite.
# `make demo TASK=planes` or `TASK=biometry` runs another task.
# The first one that runs and is 3.11 or 3.12: a version manager's command may be there and not work.
RIGHT := import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))
PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do $$p -c '$(RIGHT)' >/dev/null 2>&1 && echo $$p && break; done)
TASK ?= movement
VENV := .venv
READY := $(VENV)/.ready

.PHONY: demo test benchmarks setup lint clean

demo: setup
	@$(VENV)/bin/fetalflow run --task $(TASK)

# Two processes, whole files each: many tests wait for servers or import for seconds.
test: setup
	@$(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Decode rate, loader, training speed, memory of every stage at the paper's size: an hour and more, most of it training.
benchmarks: setup
	@for file in decode loader training_speed plane_latency stage_memory; do echo "== $$file"; $(VENV)/bin/python benchmarks/$$file.py || exit 1; done

lint: setup
	@$(VENV)/bin/ruff check .

setup: $(READY)

# The lock pins every package. Where pip's index gives torch with CUDA, torch names its CUDA packages itself.
$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed and none was found: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) (a few minutes, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

# What a run makes; the environment stays.
clean:
	rm -rf data models exports reports checkpoints workspaces mlartifacts mlflow.db .locks
