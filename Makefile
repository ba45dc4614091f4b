# Two commands for a fresh machine: `make demo` and `make test`. Both set themselves up in VENV; no root, no Docker.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CATALOGUE ?=
OUT ?= demo-out

.DEFAULT_GOAL := help
.PHONY: help setup setup-test demo reproduce reproduce-quick test test-all lint format types bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "setting up $(VENV) (some minutes the first time) …"
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "mgc needs Python 3.11 to 3.13; give one as make PYTHON=…")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "adding what the tests need …"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,lint]"
	@touch $@

setup: $(VENV)/.installed  ## the virtual environment, with all that mgc needs
setup-test: $(VENV)/.installed-test

demo: setup  ## the whole way on a small catalogue of its own; CATALOGUE=folder for yours (folder per genre)
	@$(BIN)/mgc demo $(if $(CATALOGUE),--catalogue "$(CATALOGUE)") --output "$(OUT)"

EXPERIMENT ?=
FEATURES ?=
DATA = $(if $(CATALOGUE),--catalogue "$(CATALOGUE)") $(if $(FEATURES),--features "$(FEATURES)")

reproduce-quick: OUT = reproduce-quick-out
reproduce-quick: setup  ## systems and protocols in small, in minutes; CATALOGUE= and FEATURES= (or EXPERIMENT=) for yours
	@$(BIN)/mgc reproduce "$(or $(EXPERIMENT),docs/experiments/quick.toml)" $(DATA) --output "$(OUT)"

reproduce: OUT = reproduce-out
reproduce: setup  ## the leak audit and the literature's systems, overnight; needs CATALOGUE= and FEATURES=, or EXPERIMENT=
ifneq ($(EXPERIMENT),)
	@$(BIN)/mgc reproduce "$(EXPERIMENT)" $(DATA) --output "$(OUT)"
else
	@test -n "$(CATALOGUE)" -a -n "$(FEATURES)" || { echo "give CATALOGUE=catalogue.parquet FEATURES=features, or EXPERIMENT=file.toml; make reproduce-quick needs neither"; exit 2; }
	@$(BIN)/mgc reproduce docs/experiments/leak-audit.toml $(DATA) --output "$(OUT)/leak-audit"
	@$(BIN)/mgc reproduce docs/experiments/literature.toml $(DATA) --output "$(OUT)/literature"
endif

# What starts a Ray or an S3 server has the cores for itself, one test after the other; the rest shares them out.
test: setup-test  ## unit, property, golden and integration tests (under 10 minutes on 2 cores)
	@$(BIN)/python -m pytest -n auto --maxprocesses 8 -m "not slow and not ray and not s3"
	@$(BIN)/python -m pytest -m "not slow and (ray or s3)"

test-all: setup-test  ## the slow ones too
	@$(BIN)/python -m pytest

lint: setup-test  ## ruff, the import table, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/mypy

types: setup-test  ## mypy alone
	@$(BIN)/mypy

format: setup-test  ## rewrite in the house's format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup  ## one line a figure: figure NAME VALUE UNIT
	@$(BIN)/python -m benchmarks

clean:  ## what was built; your data stays
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
