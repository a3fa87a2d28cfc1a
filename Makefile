# Two commands for a fresh clone: `make demo` and `make test`. Both need Python 3.11 or newer, git and make, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-slow check clean

demo: $(VENV)/installed
	$(BIN)/ddl demo

test: $(VENV)/test-installed
	$(BIN)/python -m pytest --numprocesses 2 --cov --cov-report=term:skip-covered

test-slow: $(VENV)/test-installed
	$(BIN)/python -m pytest --numprocesses 2 -m slow

check: $(VENV)/dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The pinned torch goes in first: an unpinned one would fetch gigabytes of CUDA libraries onto a machine without a GPU.
$(VENV)/torch: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $$(grep '^torch==' constraints.txt)
	touch $@

$(VENV)/installed: $(VENV)/torch pyproject.toml
	$(PIP) --editable .
	touch $@

$(VENV)/test-installed: $(VENV)/installed pyproject.toml
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/dev-installed: $(VENV)/test-installed pyproject.toml
	$(PIP) --editable '.[dev]'
	touch $@
