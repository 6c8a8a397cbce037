# `make demo` runs the whole pipeline on the synthetic hospital, `make test` runs all tests.
# `make demo TASK=planes` or `TASK=biometry` runs another task.
# The first Python that starts and is 3.11 or 3.12: a command of a version manager may exist but not start.
RIGHT := import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))
PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do \
  $$p -c '$(RIGHT)' >/dev/null 2>&1 && echo $$p && break; done)
TASK ?= movement
TORCH ?= cpu
VENV := .venv
READY := $(VENV)/.ready
TOOLS := .venv-tools
SBOM = $(TOOLS)/bin/cyclonedx-py requirements --output-reproducible
AUDITED ?= requirements.lock requirements-torch.lock infra/mlflow/requirements.lock

.PHONY: demo test test-long benchmarks setup lint lock sbom audit clean

demo: setup
	@$(VENV)/bin/fetalflow run --task $(TASK)

# Three processes on two cores, each with whole test files: many tests wait for servers. `make test PROCESSES=4` takes four.
PROCESSES ?= 3
# `make test PART=hospital` runs the tests of one room. A dossier reads the results of a whole run.
# Python keeps what it compiles, also where PYTHONDONTWRITEBYTECODE is set: four processes would each compile the plugins.
COMMIT = $(shell git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null)
test: setup
	@PYTHONDONTWRITEBYTECODE= $(VENV)/bin/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder \
	  $(if $(PART),tests/$(PART),--junitxml test-results.xml -o junit_suite_name=$(COMMIT))

# Whole stories that take half a minute or more each, in about 5 minutes; `make test` leaves them out.
test-long: setup
	@$(VENV)/bin/python -m pytest -n 2 --dist loadfile -m 'long or night'

# Decoding, loader, training speed, memory of all stages at the paper's size: over an hour, most of it for training.
benchmarks: setup
	@for name in decode loader training_speed plane_latency stage_memory; do \
	  echo "== $$name"; $(VENV)/bin/python -m benchmarks $$name || exit 1; done

lint: setup
	@$(VENV)/bin/ruff check .

setup: $(READY)

# Every file that pip installs has its hash in the locks. setuptools comes first, because it builds the few packages that
# have no wheel: otherwise pip would fetch a setuptools without a hash. torch is the build for CPUs where pip finds it, else
# that of the usual index, which is built for CUDA on Linux and needs 3 GB more; `make TORCH=torch` takes the latter.
INSTALL := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation
$(READY): requirements.lock requirements-dev.lock requirements-cpu.lock requirements-torch.lock pyproject.toml
	@test -n "$(PYTHON)" || { \
	  echo "Python 3.11 or 3.12 is needed, but none was found: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) (a few minutes, once)"
	@$(PYTHON) -m venv $(VENV)
	@sed -n '/^setuptools==/,/[^\\]$$/p' requirements.lock > $(VENV)/setuptools.lock
	@$(INSTALL) --require-hashes -r $(VENV)/setuptools.lock
	@$(INSTALL) --require-hashes --use-pep517 -r requirements.lock -r requirements-dev.lock
	@$(INSTALL) --require-hashes -r requirements-$(TORCH).lock 2>/dev/null \
	  || $(INSTALL) --require-hashes -r requirements-torch.lock
	@$(INSTALL) --editable .
	@$(VENV)/bin/python -m flows.running.plots_page
	@touch $(READY)

$(TOOLS)/.ready: infra/tools.lock
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r infra/tools.lock
	@touch $(TOOLS)/.ready

# Write the locks after a change of pyproject.toml; `make lock UPGRADE=--upgrade` takes newer versions (infra/lock.py).
lock: $(TOOLS)/.ready
	@PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" $(PYTHON) infra/lock.py $(UPGRADE)

# What is in the images, as CycloneDX. It needs no network.
sbom: $(TOOLS)/.ready
	@mkdir -p sbom
	@cat requirements.lock requirements-torch.lock | $(SBOM) --pyproject pyproject.toml -o sbom/worker.json -
	@$(SBOM) -o sbom/mlflow.json infra/mlflow/requirements.lock
	@echo "Wrote sbom/worker.json and sbom/mlflow.json. They list the Python packages, and none of the system."

# Known security faults of the locked versions. It asks the package index about each package, so it needs the network.
# `fetalflow dossier` takes its result from sbom/audit.json.
audit: $(TOOLS)/.ready
	@$(PYTHON) infra/audit.py $(TOOLS)/bin/pip-audit $(AUDITED)

# Delete the files of runs, but keep the environment.
clean:
	rm -rf data models exports reports checkpoints workspaces mlartifacts mlflow.db .locks
