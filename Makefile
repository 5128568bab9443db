PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && command -v $$python && break; done)
BIN := .venv/bin
INSTALLED := .venv/.installed

# Of the benchmarks: make rsna WEIGHTS=runs/medvlp/ID/checkpoints/last.ckpt [FRACTIONS="1 10"] [SEEDS=0] [ARGS="..."]
#                    make zeroshot-rsna WEIGHTS=... [PROTOCOLS="medvlp chexzero"]
WEIGHTS ?=
NAME ?=
FRACTIONS ?= 1 10 100
SEEDS ?= 0 1 2
PROTOCOLS ?=
TRUST ?=
# Of make methods: its configs or a list of medvlp/compare/methods.yaml, the one to compare with, and its tests.
METHODS ?= all
BASELINE ?=
TESTS ?=
TEST_ARGS ?=
DATA ?= data
OUT ?= runs/benchmarks
ARGS ?=
# Of the synthetic data. Not the demo's seed: its patients have been pre-trained on.
STUDIES ?= 4000
PHANTOM := data/phantom
RAW := $(PHANTOM)/raw
LAYOUTS := mimic_cxr,ms_cxr,chexpert,nih,rsna,siim,covidx,object_cxr,chestx_det10

# A config under experiments/ that gives SaveResults a benchmark's name makes a target of that name, and its first line is
# the target's line in `make help`.
LIST = awk 'FNR == 1 { summary = substr($$0, 3) } \
	/^[^\#]*benchmark: / { sub(/^.*benchmark: */, ""); sub(/[^a-zA-Z0-9_-].*/, ""); print $$0, summary }' experiments/*/*.yaml
BENCHMARKS := $(shell $(LIST) | cut -d ' ' -f 1)
GROUPS := zeroshot retrieval grounding
RUN = $(BIN)/medvlp benchmark --weights "$(WEIGHTS)" $(if $(NAME),--name "$(NAME)") --fractions "$(FRACTIONS)" \
	--seeds "$(SEEDS)" $(if $(PROTOCOLS),--protocols "$(PROTOCOLS)") $(if $(TRUST),--trust "$(TRUST)") --data "$(DATA)" --out "$(OUT)" --args="$(ARGS)"

.DEFAULT_GOAL := help
.PHONY: help install demo open-i app test test-fast coverage lint format docs bench clean weights benchmarks methods results benchmark-data $(BENCHMARKS) $(GROUPS)

help: ## Show this list.
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-26s %s\n", $$1, $$2}'
	@echo
	@$(LIST) | awk '{ name = $$1; sub(/^[^ ]* /, ""); printf "make %-26s %s\n", name, $$0 }'
	@echo
	@echo 'A benchmark takes WEIGHTS=FILE, a checkpoint of pre-training, or imagenet, random or published weights such as'
	@echo 'biomedclip, rad-dino or open_clip:..., and, if wanted,'
	@echo 'FRACTIONS="1 10 100" (percent of the labels), SEEDS="0 1 2", NAME=LABEL (of the weights in tables),'
	@echo 'PROTOCOLS="medvlp chexzero" (of zero-shot; of grounding "region patch global tag"),'
	@echo 'TRUST=PACKAGE (of your own, whose classes the weights use),'
	@echo 'DATA=data (where the prepared folders are), OUT=runs/benchmarks and ARGS="options of medvlp fit".'
	@echo 'A comparison of methods takes METHODS, BASELINE, SEEDS, TESTS="zeroshot-open-i retrieval-open-i", DATA,'
	@echo 'OUT=runs/methods, ARGS of all trainings and TEST_ARGS of all tests.'
	@echo 'What is finished is not computed again. Without the real data, on a CPU:'
	@echo '  make demo benchmark-data'
	@echo '  make benchmarks WEIGHTS=runs/demo/medvlp/ID/checkpoints/last.ckpt DATA=data/phantom ARGS="-c overlays/small_{task}"'

install: $(INSTALLED) ## Install medvlp with all its extras into .venv.

# The stamp is newer than what it was made from, so a second `make install` does nothing.
$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || test -n "$(PYTHON)" || \
		{ echo "medvlp needs Python 3.10 or newer, and no python3 here is: install one, or say 'make PYTHON=/path/to/python3'." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --editable '.[demo,encoders,dicom,tables,app,export,docs,dev]' --constraint constraints.txt
	@touch $@

demo: $(INSTALLED) ## Pre-train on synthetic chest X-rays, from nothing to a results table.
	WANDB_MODE=offline HF_HUB_OFFLINE=1 $(BIN)/medvlp demo $(ARGS)

open-i: $(INSTALLED) ## Fetch Open-I, which needs no account, pre-train on it, test it zero-shot: a table and pictures.
	WANDB_MODE=offline HF_HUB_OFFLINE=1 $(BIN)/medvlp demo open_i $(ARGS)

$(BENCHMARKS): weights
	$(RUN) $@

benchmarks: weights ## All that learn from labels, of those whose data is prepared, and their tables.
	$(RUN) classification,segmentation,detection
	$(BIN)/medvlp results "$(OUT)"

zeroshot: ## All zero-shot benchmarks whose data is prepared.
retrieval: ## All of retrieval.
grounding: ## All of grounding.
$(GROUPS): weights
	$(RUN) $@

methods: OUT := runs/methods
methods: $(INSTALLED) ## Train METHODS="imitate asg" with equal budgets, test them alike, compare them with BASELINE.
	$(BIN)/medvlp compare --methods "$(METHODS)" $(if $(BASELINE),--baseline "$(BASELINE)") --seeds "$(SEEDS)" \
		$(if $(TESTS),--tests "$(TESTS)") $(if $(TRUST),--trust "$(TRUST)") --data "$(DATA)" --out "$(OUT)" \
		--args="$(ARGS)" --test_args="$(TEST_ARGS)"

weights: $(INSTALLED)
	@test -n "$(WEIGHTS)" || { echo "which encoder? Pass WEIGHTS=FILE, a checkpoint of 'medvlp fit', WEIGHTS=biomedclip or WEIGHTS=imagenet." >&2; exit 1; }

results: $(INSTALLED) ## Tables, curves and pictures of all benchmarks in OUT, beside the published numbers.
	$(BIN)/medvlp results "$(OUT)"

app: weights ## A page on this machine to ask WEIGHTS about images.
	$(BIN)/medvlp app --weights "$(WEIGHTS)"

benchmark-data: $(RAW)/.drawn-$(STUDIES) ## Draw synthetic data for every benchmark (STUDIES=4000), and prepare it in data/phantom.
	$(BIN)/medvlp prepare mimic_cxr --images $(RAW)/mimic-cxr-jpg/2.0.0 --reports $(RAW)/mimic-cxr-reports \
		--scene_graphs $(RAW)/chest-imagenome --out $(PHANTOM)/mimic_cxr
	$(BIN)/medvlp prepare ms_cxr --root $(RAW)/ms-cxr --images $(RAW)/mimic-cxr-jpg/2.0.0 --out $(PHANTOM)/ms_cxr
	$(BIN)/medvlp prepare chexpert --root $(RAW)/CheXpert-v1.0-small --out $(PHANTOM)/chexpert
	for name in nih rsna siim covidx; do \
		$(BIN)/medvlp prepare $$name --root $(RAW)/$$name --out $(PHANTOM)/$$name || exit 1; done
	$(BIN)/medvlp prepare object_cxr --root $(RAW)/object-cxr --out $(PHANTOM)/object_cxr
	$(BIN)/medvlp prepare chestx_det10 --root $(RAW)/chestx-det10 --out $(PHANTOM)/chestx_det10

$(RAW)/.drawn-$(STUDIES): | $(INSTALLED)
	$(BIN)/medvlp phantom --out $(RAW) --layouts $(LAYOUTS) --studies $(STUDIES) --seed 1 --size 256
	@touch $@

PYTEST = OMP_NUM_THREADS=1 WANDB_MODE=offline HF_HUB_OFFLINE=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

test: lint ## Lint, then run the tests (no network needed once installed).
	$(PYTEST) --dist loadfile

test-fast: $(INSTALLED) ## Run the tests that are not marked slow.
	$(PYTEST) --dist loadscope -m "not slow"

coverage: $(INSTALLED) ## Run the tests; print which lines and branches of medvlp/ they run, with pages in build/coverage.
	@mkdir -p build/coverage
	$(PYTEST) --dist loadfile --cov --cov-report=term --cov-report=html:build/coverage/pages

lint: $(INSTALLED) ## Check style, docstrings and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy medvlp

format: $(INSTALLED) ## Rewrite the code in the project's style.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED) ## Build the documentation in build/docs; its first page is build/docs/index.html.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --config-file medvlp/docs/mkdocs.yml

bench: $(INSTALLED) ## Compare speeds with their floors, in one run.
	$(BIN)/medvlp bench

clean: ## Remove everything that make made here, runs/ and data/ apart.
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find medvlp tests experiments -name __pycache__ -prune -exec rm -rf {} +
