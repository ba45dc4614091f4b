# Two commands for a fresh machine: `make demo` and `make test`. Both set themselves up in VENV; no root, no Docker.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CATALOGUE ?=
OUT ?= $(if $(CATALOGUE),demo-out-own,demo-out)

.DEFAULT_GOAL := help
.PHONY: help setup setup-test demo reproduce reproduce-quick cluster-up cluster-down submit lock test test-all lint format types bench clean

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

demo: setup  ## the whole way on a small catalogue of its own; CATALOGUE=folder for yours; OPEN=1 opens the pages
	@$(BIN)/mgc demo $(if $(CATALOGUE),--catalogue "$(CATALOGUE)") --output "$(OUT)" $(if $(OPEN),--open)

EXPERIMENT ?=
FEATURES ?=
DATA = $(if $(CATALOGUE),--catalogue "$(CATALOGUE)") $(if $(FEATURES),--features "$(FEATURES)")

reproduce-quick: OUT = reproduce-quick-out
reproduce-quick: setup  ## systems and protocols in small, in minutes; CATALOGUE= and FEATURES= (or EXPERIMENT=) for yours
	@$(BIN)/mgc reproduce "$(or $(EXPERIMENT),docs/experiments/quick.toml)" $(DATA) --output "$(OUT)"

# Each of them resumes where it was stopped; a run that failed (status 1) stops none of the others.
REPRODUCED = leak-audit guo jain he-li zhang literature

reproduce: OUT = reproduce-out
reproduce: setup  ## the leak audit and the literature's systems, an hour and a half on two cores; CATALOGUE= and FEATURES=, or EXPERIMENT=
ifneq ($(EXPERIMENT),)
	@$(BIN)/mgc reproduce "$(EXPERIMENT)" $(DATA) --output "$(OUT)"
else
	@test -n "$(CATALOGUE)" -a -n "$(FEATURES)" || { echo "give CATALOGUE=catalogue.parquet FEATURES=features, or EXPERIMENT=file.toml; make reproduce-quick needs neither"; exit 2; }
	@status=0; for name in $(REPRODUCED); do \
		$(BIN)/mgc reproduce "docs/experiments/$$name.toml" $(DATA) --output "$(OUT)/$$name" || status=$$?; \
		test $$status -le 1 || break; \
	done; exit $$status
endif

# A cluster of one node on this machine, closed by a token: what a real one is, in small. Ray's files of it and its log
# are in CLUSTER; cluster-down ends this head and no other Ray.
CLUSTER ?= /tmp/mgc-cluster
CPUS ?= 2
RAY = RAY_AUTH_MODE=token $(BIN)/ray

cluster-up: setup  ## a local Ray cluster with token authentication; CPUS=2, its dashboard at http://127.0.0.1:8265
	@mkdir -p "$(CLUSTER)"
	@! kill -0 $$(cat "$(CLUSTER)/pid" 2>/dev/null) 2>/dev/null || { echo "it runs already: make cluster-down ends it"; exit 2; }
	@$(RAY) get-auth-token --generate >/dev/null
	@PATH="$(abspath $(BIN)):$$PATH" RAY_AUTH_MODE=token RAY_TMPDIR="$(CLUSTER)" nohup $(BIN)/ray start --head --block \
		--num-cpus=$(CPUS) --node-ip-address=127.0.0.1 --dashboard-host=127.0.0.1 --metrics-export-port=8080 \
		>"$(CLUSTER)/log" 2>&1 & echo $$! >"$(CLUSTER)/pid"
	@for try in $$(seq 60); do \
		$(RAY) job list --address=http://127.0.0.1:8265 >/dev/null 2>&1 && { echo "up: make submit JOB='tag_catalogue.py …'"; exit 0; }; \
		kill -0 $$(cat "$(CLUSTER)/pid") 2>/dev/null || break; sleep 1; \
	done; echo "it did not come up:"; tail -20 "$(CLUSTER)/log"; exit 2

cluster-down:  ## end it, with all jobs in it
	@test -f "$(CLUSTER)/pid" || { echo "no cluster of make cluster-up runs"; exit 2; }
	@kill $$(cat "$(CLUSTER)/pid") 2>/dev/null; for try in $$(seq 60); do \
		kill -0 $$(cat "$(CLUSTER)/pid") 2>/dev/null || break; sleep 1; \
	done; rm "$(CLUSTER)/pid"; echo "down"

submit:  ## run a job there and follow it: JOB='tag_catalogue.py catalogue.parquet -b bundle -o predictions'
	@test -n "$$JOB" || { echo "give JOB='SCRIPT ARGUMENTS…', a script of jobs/"; exit 2; }
	@$(RAY) job submit --address=http://127.0.0.1:8265 -- sh -c "cd '$(CURDIR)' && exec '$(abspath $(BIN))/python' jobs/$$JOB"

# PyTorch for the CPU is on an index of its own; or TORCH_CPU="--find-links FOLDER", of a folder that holds the wheel.
TORCH_CPU ?= --torch-backend cpu
LOCKED = uv pip compile pyproject.toml --constraint constraints.txt --python-version 3.11 \
	--python-platform x86_64-manylinux_2_28 --generate-hashes --no-annotate --custom-compile-command "make lock" --quiet

lock:  ## what the container images install, with hashes: deploy/requirements-*.txt (needs uv: pip install uv)
	@$(LOCKED) $(TORCH_CPU) --output-file deploy/requirements-cpu.txt
	@$(LOCKED) --output-file deploy/requirements-cuda.txt

# What starts a Ray or an S3 server has the cores for itself, one test after the other; the rest shares them out.
test: setup-test  ## unit, property, golden and integration tests (under 10 minutes on 2 cores)
	@$(BIN)/python -m pytest -n auto --maxprocesses 8 -m "not slow and not ray and not s3"
	@$(BIN)/python -m pytest -m "not slow and (ray or s3)"

test-all: setup-test  ## the slow ones too
	@$(BIN)/python -m pytest

lint: setup-test  ## ruff, the import table, types, the Dockerfile
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/mypy
	@$(BIN)/hadolint deploy/Dockerfile

types: setup-test  ## mypy alone
	@$(BIN)/mypy

format: setup-test  ## rewrite in the house's format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup  ## one line a figure: figure NAME VALUE UNIT
	@$(BIN)/python -m benchmarks

clean:  ## what was built; your data stays
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
