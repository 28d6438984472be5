# Everything runs from .venv, which uv fills from uv.lock. uv itself is fetched into .tools when it is missing.
PYTHON ?= python3
ARGS ?=
SECONDS ?= 30

TOOLS := .tools
UV := $(TOOLS)/bin/uv
UV_VERSION := 0.13.9
BIN := .venv/bin
DEV := .venv/.stamp-dev
DEMO := .venv/.stamp-demo
SOURCES := $(wildcard saga transports outbox examples tests)

export UV_PYTHON := $(PYTHON)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test simulate mutants bench bench-quick check format lock venv clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO) ## Run the payment example in one process
	$(BIN)/python -m examples.payment demo $(ARGS)

test: $(DEV) ## Run the whole test suite; more arguments with ARGS='-k outbox'
	$(BIN)/python -m pytest $(ARGS)

simulate: $(DEV) ## Run random schedules for SECONDS=30; replay one with `python -m tests.simulation --replay SEED`
	$(BIN)/python -m tests.simulation --seconds $(SECONDS) $(ARGS)

mutants: $(DEV) ## Take out one guard after another and see the simulation notice
	$(BIN)/python -m tests.simulation.mutants

bench: $(DEV) ## Measure on real servers beside the same saga written by hand; others with ARGS='--cases all'
	$(BIN)/python -m tests.benchmarks $(ARGS)

bench-quick: $(DEV) ## Measure the main cases once and briefly
	$(BIN)/python -m tests.benchmarks --quick $(ARGS)

check: $(DEV) ## Lint, formatting, types and import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(DEV) ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: $(UV) ## Take newer versions of all dependencies into uv.lock
	$(UV) lock --upgrade

venv: $(DEV) ## Install everything into .venv

clean: ## Remove what the tools left in the checkout
	rm -rf .venv $(TOOLS) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist

$(UV):
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

$(DEV): pyproject.toml uv.lock | $(UV)
	$(UV) sync --quiet --locked --all-extras --all-groups
	@touch $(DEV) $(DEMO)

# --inexact: a virtual environment made for development keeps its packages.
$(DEMO): pyproject.toml uv.lock | $(UV)
	$(UV) sync --quiet --locked --inexact --no-default-groups --group example --extra cli
	@touch $@
