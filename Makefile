# The two commands of a newcomer are `make demo` and `make test`; `make help` lists the rest.
PYTHON ?= python3
BIN := .venv/bin
# dvc.yaml calls `python`, and MLflow's server calls `uvicorn`: both must be the environment's own.
export PATH := $(CURDIR)/$(BIN):$(PATH)
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock

.PHONY: help demo up test test-slow lint format bench bench-train

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: .venv/installed  ## install, run the whole graph on synthetic streets, say where to look
	dvc repro
	@python -m pipeline results

up: .venv/installed  ## MLflow, Prefect and the scheduled retraining on this machine; ctrl-C ends all
	python -m pipeline up

test: .venv/installed-dev  ## the test suite, without what is slow
	pytest --numprocesses 2 --dist loadfile

test-slow: .venv/installed-dev  ## real runs of the whole graph on the tiniest data
	pytest -m slow --numprocesses 2 --dist loadfile

lint: .venv/installed-dev  ## ruff and mypy
	ruff check
	ruff format --check
	mypy

format: .venv/installed-dev  ## mend what ruff can mend
	ruff check --fix
	ruff format

bench: .venv/installed-dev  ## compare with transformers, plain losses, the official script; time a fresh `dvc repro`
	python -m benchmarks.network
	python -m benchmarks.losses
	python -m benchmarks.metrics
	python -m benchmarks.data
	python -m benchmarks.synthetic
	python -m benchmarks.graph
	python -m benchmarks.serving

bench-train: .venv/installed-dev  ## images/s of training, beside a plain loop around transformers' SegFormer
	python -m benchmarks.training --variant b0
	python -m benchmarks.training --variant b0 --profile
	python -m benchmarks.training --variant b3 --batch 1 --steps 2
	python -m benchmarks.training --variant b3 --batch 1 --profile

.venv/installed: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "Python 3.11 or 3.12 is needed: make demo PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (a few minutes the first time) ..."
	$(PIP_INSTALL) --editable '.[pipeline]'
	touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing what tests and benchmarks need into .venv ..."
	$(PIP_INSTALL) --editable '.[pipeline,dev]'
	touch $@
