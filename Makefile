# Everything a developer types. Needs Python ≥ 3.11, git and make; the rest goes into .venv.
# Another interpreter: make test PYTHON=python3.13

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
PYTHON313 ?= python3.13
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
LOG := $(VENV)/pytest.log

# pyright brings its own node and scripts in the wheels; without this it asks the network for a newer one.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
# mkdocs-material prints an advertisement for another generator at each build.
export NO_MKDOCS_2_WARNING := 1

# The tests start hundreds of processes, and each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

step = @printf '\n── %s ──\n' "$(1)"

.PHONY: help install demo test static lint format types mypy pyright imports collect check coverage docs contract nightly long frameworks python313 suite suites bench bench-peers bench-large figures clean

help: ## Show this list
	@sed -nE 's/^([a-z0-9-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

$(READY): pyproject.toml constraints.txt
	$(call step,install)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	@# The pip that comes with Python may be too old to read dependency groups (before 25.1).
	$(PY) -m pip install -qq --upgrade --constraint constraints.txt pip
	$(PY) -m pip install -qq --constraint constraints.txt --build-constraint constraints.txt \
	    --editable '.[all]' --group dev
	@touch $@

install: $(READY) ## Make .venv, if pyproject.toml or constraints.txt changed

demo: $(READY) ## Import a corpus, chat, be killed mid-turn, resume
	@$(PY) demo/demo.py

test: static check coverage ## Everything that CI checks
	@printf '\n%s\n' "$$(tail -n 1 $(LOG))"

static: $(READY) ## All checks but the package's own tests, two at a time
	@$(MAKE) --jobs=2 --output-sync=target pyright mypy collect suites docs lint imports

lint: $(READY) ## Style and formatting
	$(call step,ruff)
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check

format: $(READY) ## Repair style and formatting where a tool can
	@$(PY) -m ruff check --fix
	@$(PY) -m ruff format

types: $(READY) ## mypy --strict and pyright, on package and tests, in parallel
	@$(MAKE) --jobs=2 mypy pyright

mypy: $(READY)
	$(call step,mypy)
	@$(PY) -m mypy

pyright: $(READY)
	$(call step,pyright)
	@$(PY) -m pyright --pythonpath $(PY)

imports: $(READY) ## Check that imports point inwards
	$(call step,import-linter)
	@$(VENV)/bin/lint-imports --no-logo

collect: $(READY) ## Find the tests; pytest compiles them once for all processes that run them
	$(call step,pytest --collect-only)
	@$(PY) -m pytest --collect-only -qq | sed '/^tests.*: [0-9]*$$/d;/^$$/d'

suites: $(READY) ## The suites that agent frameworks ship, on memory, files and SQLite
	$(call step,suites of frameworks)
	@$(PY) -m scripts.framework_tests --suites

check: $(READY) ## All tests, measuring coverage
	$(call step,pytest)
	@# three processes on two cores: tests wait for servers and other processes
	@$(PY) -m pytest --numprocesses 3 --dist worksteal --durations 15 --cov --cov-report= | tee $(LOG)

coverage: check ## Coverage gates: 100 % of the core, 95 % overall
	$(call step,coverage)
	@$(PY) -m coverage report --fail-under 100 --include '*/domain/*,*/application/*'
	@$(PY) -m coverage report --fail-under 95

docs: $(READY) ## Build the documentation into site/
	$(call step,mkdocs)
	@$(PY) -m mkdocs build --strict

contract: $(READY) ## The storage contract: which case holds on which backend
	@LUMINORA_NIGHTLY=1 $(PY) -m pytest tests/contract --quiet --no-header --numprocesses 2 -p tests.support.contract_table

nightly: python313 long frameworks ## The long run, agent frameworks, and the tests on Python 3.13

long: $(READY) ## Wrappers over every backend, more examples, hundreds of SIGKILLs
	$(call step,long run)
	@LUMINORA_NIGHTLY=1 HYPOTHESIS_PROFILE=nightly LUMINORA_CRASH_TRIALS=200 LUMINORA_SERVER_KILLS=10 \
	    LUMINORA_LISTING_SIZE=10000 $(PY) -m pytest --numprocesses 2 --dist worksteal

frameworks: $(READY) ## The adapters under their agent frameworks, each in an environment of its own
	$(call step,frameworks)
	@$(PY) -m scripts.framework_tests

python313: ## The tests on Python 3.13, in .venv313
	@'$(PYTHON313)' --version >/dev/null 2>&1 || { \
	    echo "$(PYTHON313) was not found. Name it, make nightly PYTHON313=…, or leave it out: make long"; exit 1; }
	@$(MAKE) suite PYTHON='$(PYTHON313)' VENV=.venv313

suite: $(READY)
	$(call step,pytest on $(PYTHON))
	@$(PY) -m pytest --numprocesses 2 --dist worksteal

bench: $(READY) ## Measure what README and documentation claim; under ten minutes
	$(call step,import_time)
	@$(PY) -m benchmarks.import_time
	$(call step,append_cost)
	@$(PY) -m benchmarks.append_cost
	$(call step,optimizer)
	@$(PY) -m benchmarks.optimizer --sessions 100
	$(call step,speed)
	@$(PY) -m benchmarks.speed
	$(call step,turns)
	@$(PY) -m benchmarks.turns
	$(call step,pauses)
	@$(PY) -m benchmarks.turn_parts.pauses

bench-peers: $(READY) ## The same work done by other packages
	@$(PY) -m benchmarks.peers
	@$(PY) -m benchmarks.turns --peers
	@$(PY) -m benchmarks.frameworks --environments

bench-large: $(READY) ## A million messages, a hundred thousand sessions; takes long
	@$(PY) -m benchmarks.large

figures: $(READY) ## Measure again and write the figures into the documentation
	@$(PY) -m benchmarks.optimizer --write
	@$(PY) -m benchmarks.speed --write
	@$(PY) -m benchmarks.peers --write
	@$(PY) -m benchmarks.turns --write
	@$(PY) -m benchmarks.turns --peers --write
	@$(PY) -m benchmarks.frameworks --environments --write
	@$(PY) -m benchmarks.turn_parts.pauses --write
	@$(PY) -m benchmarks.large --write

clean: ## Remove everything that make created
	rm -rf $(VENV) .venv313 .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist site
