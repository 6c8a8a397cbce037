# `make demo` runs the whole pipeline on the synthetic hospital, `make test` runs all tests.
# `make demo TASK=planes` or `TASK=biometry` runs another task.
# The first Python that starts and is 3.11 or 3.12: a command of a version manager may exist but not start.
RIGHT := import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))
PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do \
  $$p -c '$(RIGHT)' >/dev/null 2>&1 && echo $$p && break; done)
TASK ?= movement
VENV := .venv
READY := $(VENV)/.ready

.PHONY: demo test benchmarks setup lint clean

demo: setup
	@$(VENV)/bin/fetalflow run --task $(TASK)

# Three processes on two cores, each with whole test files: many tests wait for servers.
# `make test PART=hospital` runs the tests of one room.
test: setup
	@$(VENV)/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(if $(PART),tests/$(PART))

# Decoding, loader, training speed, memory of all stages at the paper's size: over an hour, most of it for training.
benchmarks: setup
	@for name in decode loader training_speed plane_latency stage_memory; do \
	  echo "== $$name"; $(VENV)/bin/python -m benchmarks $$name || exit 1; done

lint: setup
	@$(VENV)/bin/ruff check .

setup: $(READY)

# The lock pins every package, except the CUDA packages: a torch with CUDA lists these as its requirements.
$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { \
	  echo "Python 3.11 or 3.12 is needed, but none was found: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) (a few minutes, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(VENV)/bin/python -m flows.plots_page
	@touch $(READY)

# Delete the files of runs, but keep the environment.
clean:
	rm -rf data models exports reports checkpoints workspaces mlartifacts mlflow.db .locks
