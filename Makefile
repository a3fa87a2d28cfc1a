# Two commands for a fresh clone: `make demo` and `make test`. Both need Python 3.11 or newer, git and make, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Another index for torch alone, for a smaller build of it or another CUDA: make demo TORCH_INDEX=URL
TORCH_INDEX :=

.PHONY: demo test test-slow test-processors check clean

demo: $(VENV)/installed
	$(BIN)/ddl demo

# One thread for each of two processes. Measuring coverage, with COVERAGE=1, takes half as long again.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test: $(VENV)/test-installed
	$(PYTEST) --durations=15 $(if $(COVERAGE),--cov --cov-report=term:skip-covered)

test-slow: $(VENV)/test-installed
	$(PYTEST) -m slow

# As lesser processors would run the tests; with SHORT=1 a part of that, in minutes.
test-processors: $(VENV)/test-installed
	$(BIN)/python .ci/processors.py $(if $(SHORT),--short)

check: $(VENV)/dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# On Linux the public index has torch with CUDA: 2.7 GB to download, 4.8 GB on disk. torch goes in first and by itself,
# so that TORCH_INDEX decides where it comes from and what else it brings; nothing that follows replaces it.
$(VENV)/torch: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $$(grep '^torch==' constraints.txt)
	touch $@

$(VENV)/installed: $(VENV)/torch pyproject.toml
	$(PIP) --editable '.[report,tui]'
	touch $@

$(VENV)/test-installed: $(VENV)/installed pyproject.toml
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/dev-installed: $(VENV)/test-installed pyproject.toml
	$(PIP) --editable '.[dev]'
	touch $@
