# make run WORKSPACE=DIR [QUERY="..."]   make test   make setup   make bench
PY ?= python3
TORCH ?= cpu
VENV := .venv
BIN := $(VENV)/bin
WORKSPACE ?= $(CURDIR)
.PHONY: run setup links check test bench clean

setup: $(VENV)/built links

# The lock is complete and is installed without dependency resolution. torch stands apart: its build differs by
# machine (TORCH=cpu|cuda), so it has a version but no hash.
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps
$(VENV)/ok: pyproject.toml setup.py requirements.lock requirements-dev.lock requirements-build.lock .ci/install-torch
	$(PY) -c 'import sys; sys.exit("codegraphd needs Python 3.11 or newer; set PY=python3.11" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PY) -m venv $(VENV)
	$(PIP) --require-hashes -r requirements-build.lock
	PY=$(BIN)/python TORCH=$(TORCH) sh .ci/install-torch
	$(PIP) --require-hashes --no-build-isolation -r requirements.lock -r requirements-dev.lock
	touch $@

# The package itself, with its compiled module (needs a C++ compiler, as hnswlib does); once more where that is gone.
ifeq ($(wildcard daemon/analysis/_scan*.so),)
.PHONY: $(VENV)/built
endif
$(VENV)/built: $(VENV)/ok $(wildcard daemon/analysis/_scan*.cpp daemon/analysis/_scan*.h)
	$(PIP) --no-build-isolation -e .
	touch $@

links: # what type checkers see: codegraphd/ as one namespace; ignored by git, never packaged
	@mkdir -p .links/codegraphd
	@for d in daemon ipc store; do ln -sfn ../../$$d .links/codegraphd/$$d; done

run: setup
	$(BIN)/codegraphd start
	$(BIN)/codegraphd watch --wait "$(WORKSPACE)"
	$(BIN)/codegraphd status
	@if [ -n "$(QUERY)" ]; then $(BIN)/codegraphd search --root "$(WORKSPACE)" "$(QUERY)"; fi

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: check
	$(BIN)/pytest -q

bench: setup
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) .links build *.egg-info .mypy_cache .ruff_cache .pytest_cache daemon/analysis/_scan*.so
