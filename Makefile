# Two commands on a fresh machine: `make demo` (see it work) and `make test` (check everything).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
STAMP  := $(VENV)/.installed
OUT    ?= out/demo

# Where an image of a machine forbids it, each of the tests' many processes would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help venv demo style check test goldens lint docs hooks bench clean

help:
	@echo "make demo    set up, then map, locate and evaluate a made town; ends with a page to open"
	@echo "make test    set up, then every check: lint, types, layers, tests, the wheel"
	@echo "make check   in about a minute: style, vocabulary, layers and all tests that are not slow"
	@echo "make goldens all published networks against their original code's answers: minutes, gigabytes"
	@echo "make lint    style, vocabulary, types and layers alone"
	@echo "make docs    the documentation site, into out/site"
	@echo "make hooks   check style, vocabulary and layers before each commit"
	@echo "make bench   the benchmarks, each a ratio against a plain reference; a short table at the end"
	@echo "make clean   remove .venv, dist and out"

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all]' --group dev
	@touch $(STAMP)

demo: venv
	$(BIN)/dejavlad demo --out $(OUT)

style: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/vocabulary.py
	$(BIN)/lint-imports

lint: style
	$(BIN)/mypy

check: style
	$(BIN)/pytest --quiet --numprocesses 2 --dist worksteal -m "not slow and not large"

docs: venv
	$(BIN)/zensical build --config-file mkdocs.yml --strict --clean

hooks: venv
	$(BIN)/pre-commit install

test: lint
	$(BIN)/pytest --numprocesses 2 --dist worksteal -m "not large"

goldens: venv
	$(BIN)/pytest tests/parity/test_parity_models.py

bench: venv
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) dist build out
