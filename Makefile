# Everything runs in .venv, which is made with what pyproject.toml asks for; only Python 3.11 or later is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-all lint bench readme clean

# Index real photos, search them, redraw one; leaves demo/index.html.
demo: $(READY)
	$(BIN)/python -m datasets.demo demo

# All but the slow tests. Those of a file share what they have made, so a file is one process's. Those that promise a
# time come last, with the machine to themselves.
test: $(READY)
	$(BIN)/python -m pytest -m "not slow and not alone" -n auto --dist loadfile
	$(BIN)/python -m pytest -m "not slow and alone"

test-all: $(READY)
	$(BIN)/python -m pytest -m "not alone" -n auto --dist loadfile
	$(BIN)/python -m pytest -m alone

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Prints the tables of benchmarks/README.md, measured here and now.
bench: $(READY)
	$(BIN)/python -m benchmarks

# Makes the pictures and the outputs in README.md anew, by the commands that it shows.
readme: $(READY)
	$(BIN)/python -m datasets.readme

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo build dist
