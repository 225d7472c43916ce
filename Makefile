PYTHON ?= .venv/bin/python

.PHONY: check test test-all test-gpu sanitize bench bench-docs reference docs documents freeze-documents

check:  ## Lint, types, spelling and the direction of imports
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m codespell_lib
	$(PYTHON) -m mypy
	$(dir $(PYTHON))lint-imports

test:  ## All tests that need no GPU
	$(PYTHON) -m pytest -n auto

test-all:  ## These, and the longest
	$(PYTHON) -m pytest -n auto -m "long or not long"

test-gpu:  ## The tests that need a CUDA device
	$(PYTHON) -m pytest -m gpu -n 4

sanitize:  ## The kernels' small shapes under compute-sanitizer, which a CUDA toolkit brings
	for tool in memcheck racecheck; do \
		PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool $$tool --error-exitcode 9 \
			$(PYTHON) examples/small_shapes.py || exit 1; \
	done

bench:  ## Reading speed by length, NSA beside dense attention
	$(PYTHON) -m nsa_cli bench read

bench-docs:  ## The tables of docs/benchmarks.md and others, written from docs/data
	$(PYTHON) examples/write_benchmarks.py

reference:  ## docs/reference and docs/man, written from the program
	$(PYTHON) examples/write_reference.py
	$(PYTHON) examples/write_manual.py

docs:  ## The documentation as a site in build/site; broken links fail
	$(PYTHON) examples/docs_site.py
	$(dir $(PYTHON))zensical build --strict --clean

documents:  ## The PDFs of the suite of real documents, from their public sources
	$(PYTHON) -m nsa_cli.evaluation.document_suite.collect tests/evaluation/documents .bench/documents

freeze-documents:  ## The hashes of the suite's questions, after a change that is meant
	$(PYTHON) -m nsa_cli.evaluation.document_suite.freeze --again tests/evaluation/documents
