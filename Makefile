# Every target makes its own set-up: a virtual environment in .venv with the versions of
# constraints.txt. `make test PYTHON=python3.12` takes another interpreter.

PYTHON ?= python3
BIN := .venv/bin
EXTRAS := video,train,report,serve,chat
INSTALL = $(BIN)/python -m pip install --quiet -c constraints.txt
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-all check docs bench

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' Makefile

demo: .venv/.installed ## tune the bundled model on generated pictures; results go to demo/
	$(BIN)/aurora demo --out demo

serve: .venv/.installed ## serve the mini foundation over a small generated gallery on 127.0.0.1:8000
	$(BIN)/aurora serve

test: .venv/.installed-dev ## run the tests
	$(PYTEST)

test-all: .venv/.installed-dev ## run the tests, the long ones included
	$(PYTEST) -m "" --timeout 3600

check: .venv/.installed-dev ## lint, formatting, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: .venv/.installed ## measure speed and memory against the opponents; takes long
	$(BIN)/python -m benchmarks --json benchmarks/results/latest.json

docs: .venv/.installed-docs ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "make: $(PYTHON) was not found; name a Python 3.11 or newer: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: $(PYTHON) is `$(PYTHON) -V`, but Aurora needs Python 3.11 or newer;" \
	    "name one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv

# The build tools come first and without isolation, so that constraints.txt holds for them too;
# docopt, which num2words needs, is a source distribution and is built in isolation.
.venv/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) hatchling editables docopt
	$(INSTALL) --no-build-isolation -e '.[$(EXTRAS)]'
	@touch $@

.venv/.installed-dev: .venv/.installed
	$(INSTALL) --no-build-isolation -e '.[$(EXTRAS),milvus,dev]'
	@touch $@

.venv/.installed-docs: .venv/.installed
	$(INSTALL) --no-build-isolation -e '.[$(EXTRAS),docs]'
	@touch $@
