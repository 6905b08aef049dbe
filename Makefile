PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TESTS  ?= tests
DATA   ?= ../shared/data
MODEL  ?= moco-opencxr-resnet18

.PHONY: help demo test check docs reading report weights evidence wheel-test bench fuzz clean

help:  ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Installed once; again when the requirements change. Strict: an import hook would lose to a folder named cxrzoo, such
# as this checkout seen from its parent, and type checkers can't follow it. Run it again for a new Python file.
$(READY): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' \
	  --config-settings editable_mode=strict
	@touch $@

demo: $(READY)  ## a real chest radiograph in DICOM through a backbone: embedding and pictures in demo/
	@$(BIN)/cxrzoo demo --model moco-opencxr-resnet18 --out demo --image \
	  "$$($(BIN)/python -c 'from pydicom.data import get_testdata_file as f; print(f("RG1_J2KR.dcm", download=False))')"

test: $(READY)  ## all tests
	$(BIN)/python -m pytest -q -n 2 $(TESTS)

check: $(READY)  ## formatting, lint, types, stale tables, then all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/make_evidence.py --check
	$(BIN)/python -m cxrzoo.documents --check README.md MODEL_CARD.md conversion/README.md hub docs/open-weights.md
	$(MAKE) test

docs: $(READY)  ## make the tables in the documents anew from hub/ and conversion/
	$(BIN)/python -m cxrzoo.documents README.md MODEL_CARD.md conversion/README.md hub docs/open-weights.md

reading: $(READY)  ## make the pictures and tables of docs/reading.md anew
	$(BIN)/python docs/make_reading.py

# Some twenty minutes at first; what is embedded is kept in report/.
report: $(READY)  ## compare models on the radiographs in $(DATA): reports in report/, figures in README.md
	$(BIN)/python docs/make_report.py $(DATA)
	$(MAKE) docs

# Hours on a processor; stopped, it goes on where it was. MODEL=moco-opencxr-resnet18
weights: $(READY)  ## train one of the open models on the radiographs in $(DATA), and put it into hub/
	$(BIN)/python docs/make_weights.py $(MODEL) $(DATA)
	$(MAKE) docs

evidence: $(READY)  ## what the open models are worth on the radiographs in $(DATA): docs/evidence/, docs/open-weights.md
	$(BIN)/python docs/make_evidence.py $(DATA)
	$(MAKE) docs

wheel-test: $(READY)  ## build the wheel, install it in a fresh environment, test it away from the checkout
	sh tests/wheel-test.sh $(PYTHON)

bench: $(READY)  ## the figures the README quotes
	$(BIN)/python benchmarks/load.py
	$(BIN)/python benchmarks/convert.py
	$(BIN)/python benchmarks/start.py
	$(BIN)/python benchmarks/preprocess.py
	$(BIN)/python benchmarks/isolate.py
	$(BIN)/python benchmarks/faithful.py
	$(BIN)/python benchmarks/pretrain.py --data $(DATA)
	$(BIN)/python benchmarks/probe.py

# One case again, by what is kept of it in fuzz/: make fuzz FUZZ='--replay lies random/zip/ 722'
fuzz: $(READY)  ## 130,000 hostile checkpoints and images, some ten minutes: tables of what must hold and what was measured
	@PYTHONPATH=tests $(BIN)/python -m hostile.campaign $(FUZZ)

clean:  ## remove what make made
	rm -rf $(VENV) build dist demo report *.egg-info
