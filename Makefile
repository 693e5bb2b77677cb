# `make demo` and `make test` work on a fresh machine with Python 3.11 or newer, git and make.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help install demo test lint docs site clean

VENV ?= .venv
BIN ?= $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null \
	&& command -v $$python && break; done)

# The workflow's jobs call `m2m`, wherever the environment lives.
export PATH := $(abspath $(BIN)):$(PATH)

help:
	@echo "make install set up the environment, in .venv"
	@echo "make demo    simulate a small cohort, run the whole workflow on it, name the report"
	@echo "make test    run the tests"
	@echo "make lint    check code and workflow: errors, format, good practice"
	@echo "make docs    write the page of each stage to docs/stages, from the code"
	@echo "make site    build the documentation as a site: site/index.html"
	@echo "make clean   remove the environment, the demo's results and the tools' caches"

install: $(INSTALLED)
	@echo "Now: source $(VENV)/bin/activate"

demo: $(INSTALLED)
	$(BIN)/snakemake --cores all
	@echo "Open results/demo/report.html"

test: $(INSTALLED)
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(COVERAGE)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

docs: $(INSTALLED)
	$(BIN)/python docs/stages.py

site: $(INSTALLED)
	rm -rf site docs/api
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --jobs 2 docs site
	@echo "Open site/index.html"

clean:
	rm -rf $(VENV) results/demo results/tiny site docs/api .pytest_cache .ruff_cache .mypy_cache .coverage *.egg-info

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "m2m needs Python 3.11 or newer: install it, or name it with 'make PYTHON=/path/to/python3'"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing: on Debian or Ubuntu, install the package python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[workflow,train,evaluate,report,export,dev,docs,cluster]'
	touch $@
