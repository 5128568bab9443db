PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && command -v $$python && break; done)
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format bench clean

help: ## Show this list.
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

install: $(INSTALLED) ## Install medvlp with its demo and developer extras into .venv.

# The stamp is newer than what it was made from, so a second `make install` does nothing.
$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || test -n "$(PYTHON)" || \
		{ echo "medvlp needs Python 3.10 or newer, and no python3 here is: install one, or say 'make PYTHON=/path/to/python3'." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --editable '.[demo,dev]' --constraint constraints.txt
	@touch $@

demo: $(INSTALLED) ## Pre-train on synthetic chest X-rays, from nothing to a results table.
	WANDB_MODE=offline HF_HUB_OFFLINE=1 $(BIN)/medvlp demo

test: lint ## Lint, then run the tests (no network needed once installed).
	WANDB_MODE=offline HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

lint: $(INSTALLED) ## Check style, docstrings and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy medvlp

format: $(INSTALLED) ## Rewrite the code in the project's style.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## Compare speeds with their floors, in one run.
	$(BIN)/medvlp bench

clean: ## Remove everything that make made here, runs/ apart.
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find medvlp tests experiments -name __pycache__ -prune -exec rm -rf {} +
