# Every target sets up what it needs: a Python 3.10 or newer and a C compiler are enough.
#   make demo   the whole line on an embedded pin, without a GPU
#   make test   the tests
#   make lint   ruff, mypy and the checks of the documentation
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help dev demo test test-gpu lint format check-readme bench clean

help:
	@sed -n 's/^#   //p' Makefile

# The stamp is older than pyproject.toml after a pull that changed the dependencies.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "sagefix needs Python 3.10 or newer; $(PYTHON) is older. Name another: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[lint,test,uv]'
	@touch $@

dev: $(VENV)/.installed

demo: dev
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash scripts/demo.sh

test: dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m 'not gpu' -n $(WORKERS)

# On a machine with a GPU; see docs/gpu-checks.md.
test-gpu: dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m gpu tests/gpu

lint: dev check-readme
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.12

format: dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check-readme: dev
	$(BIN)/python scripts/check_docs.py

bench: dev
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python benchmarks/run.py

clean:
	rm -rf .demo .mypy_cache .ruff_cache .pytest_cache build dist
