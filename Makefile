PYTHON ?= .venv/bin/python

.PHONY: check test test-gpu bench

check:  ## Lint, types and the direction of imports
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(dir $(PYTHON))lint-imports

test:  ## All tests that need no GPU
	$(PYTHON) -m pytest

test-gpu:  ## The tests that need a CUDA device
	$(PYTHON) -m pytest -m gpu

bench:  ## Reading speed by length, NSA beside dense attention
	$(PYTHON) -m nsa_cli bench read
