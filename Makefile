# The front door. Every target first makes the environment .venv, when it is missing or older than what it is made from.
# On a machine without a GPU, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu saves some gigabytes of CUDA.

PYTHON ?= python3
MINUTES ?= 60
# Processes of the test run; each gets one thread, so that they do not fight for the cores.
WORKERS ?= $(shell nproc 2>/dev/null || echo 2)

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test lint docs bench shipped models leaderboard recognisers interpreters
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv with the package and what tests, lint and docs need

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("auriscope needs Python 3.11 or newer; name one with make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo "Making the environment $(VENV); this downloads for some minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group test --group lint --group docs
	@touch $@

demo: install ## make a short recording, listen to it, and write its report into demo/
	$(BIN)/python -m auriscope.verbs.demo --out demo

test: lint ## lint, then all tests with doctests and coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal --cov --cov-report=term $(ARGS)

lint: install ## ruff, mypy and the layers of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: install ## build the documentation into site/; any warning fails
	$(BIN)/sphinx-build --fail-on-warning --keep-going --jobs auto --builder html docs site

SEPARATOR := separation/bandsplit.mini
SEPARATORS := $(SEPARATOR) separation/dprnn.mini
ESTIMATOR := quality/sisnr.pooled
bench: install ## print every figure of the documentation, side by side with its peer (needs AURISCOPE_CORPORA)
	PYTHON=$(PYTHON) benchmarks/peers.sh
	$(BIN)/auriscope evaluate $(SEPARATOR) libri2mix-mini-clean libri2mix-mini-noisy-reverb
	$(BIN)/python benchmarks/blind_estimate.py --estimator $(ESTIMATOR) $(foreach separator,$(SEPARATORS),--separator $(separator))
	$(BIN)/python benchmarks/synthetic_against_real.py --quality-model $(ESTIMATOR)
	$(BIN)/python benchmarks/model_speed.py
	$(BIN)/python benchmarks/long_recording_memory.py --model $(SEPARATOR)
	$(BIN)/python benchmarks/peer_speed.py
	$(BIN)/python benchmarks/talker_swaps.py --model $(SEPARATOR)
	$(BIN)/python benchmarks/mixing_speed.py
	$(BIN)/python benchmarks/pit_speed.py
	$(BIN)/python benchmarks/classical_speed.py
	$(BIN)/python benchmarks/note_transcription.py
	$(BIN)/python benchmarks/ica_series.py
	$(BIN)/python benchmarks/study_load.py
	$(BIN)/python benchmarks/study_simulation.py
	$(BIN)/python benchmarks/one_voice.py

shipped: install ## train every shipped model for MINUTES=60 in all, the neediest first, going on where it stopped
	$(BIN)/python -m auriscope.verbs.shipped --minutes $(MINUTES)

models: install ## write docs/models.md: every shipped model, its figures, curve, speed (needs AURISCOPE_CORPORA)
	$(BIN)/python benchmarks/shipped_models.py

# The systems of the comparison, each trained for the same audio with the same seed; their runs go on where they stopped.
CORPUS := libri2mix-mini
SYSTEMS := $(patsubst recipes/separation/%-$(CORPUS).yaml,%,$(wildcard recipes/separation/*-$(CORPUS).yaml))
STEPS ?= 900 1800 2700 3600 4500 5400
leaderboard: install ## train every separation system on the same audio and compare them (needs AURISCOPE_CORPORA)
	for steps in $(STEPS); do for system in $(SYSTEMS); do \
	  $(BIN)/auriscope train recipes/separation/$$system-$(CORPUS).yaml training.max_steps=$$steps || exit 1; \
	done; done
	$(BIN)/auriscope compare $(foreach system,$(SYSTEMS),$(system)=runs/$(system)-$(CORPUS)/model) \
	  --set $(CORPUS)-clean --out comparison
	mkdir -p docs/systems/leaderboard
	cp comparison/*.csv comparison/*.png comparison/leaderboard.md docs/systems/leaderboard/

# The recognisers of the comparison, likewise.
RECOGNISERS := mean-context las transformer blstm-ctc joint
SPOKEN ?= digits
recognisers: install ## train every recogniser on the same speech (SPOKEN=digits or libri-mini) and compare them
	for system in $(RECOGNISERS); do \
	  $(BIN)/auriscope train recipes/recognition/$$system-$(SPOKEN).yaml || exit 1; \
	done
	$(BIN)/python benchmarks/asr_systems.py --recipes $(SPOKEN)

# The interpreters of the tables, each of the classifiers that ship.
INTERPRETERS := piq l2i vibi flint lmac
trained = $(foreach set,$(1),$(foreach system,$(INTERPRETERS),--interpreter runs/$(system)-$(set)/model))
interpreters: install ## train every interpreter of the shipped classifiers and print their tables
	for set in mnist fashion-mnist sound-events; do for system in $(INTERPRETERS); do \
	  $(BIN)/auriscope train recipes/interpretation/$$system-$$set.yaml || exit 1; \
	done; done
	$(BIN)/python benchmarks/interpretation_images.py $(call trained,mnist fashion-mnist)
	$(BIN)/python benchmarks/interpretation_audio.py $(call trained,sound-events)
