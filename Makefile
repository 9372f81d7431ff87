# Two commands work from a fresh clone with nothing installed but Python (3.11 or later) and pip:
#   make demo    set up, train a style adapter on the embedded model, diff it, write one page
#   make test    set up, run the fast tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One worker a core, each with one thread; a file's tests stay together, since they share what they train.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

.PHONY: demo test test-slow test-sae lint bench clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

demo: $(READY)
	$(BIN)/repgeo demo --out results/demo

test: $(READY)
	$(PYTEST) -m "not slow"

test-slow: $(READY)
	$(PYTEST) -m slow

# Dictionaries need sae-lens, which needs transformer_lens below 4: an environment of their own, all other pins the same.
test-sae:
	$(PYTHON) -m venv .venv-sae
	grep -v -i '^transformer.lens' constraints.txt > .venv-sae/constraints.txt
	.venv-sae/bin/python -m pip install --quiet --disable-pip-version-check --constraint .venv-sae/constraints.txt torch
	.venv-sae/bin/python -m pip install --quiet --disable-pip-version-check --constraint .venv-sae/constraints.txt '.[test,sae]'
	OMP_NUM_THREADS=1 .venv-sae/bin/python -m pytest tests/geometry/live/test_dictionary.py tests/analyses/test_features.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(READY)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build *.egg-info
