# Start with `make demo` and `make test`; `make help` lists all targets.
PYTHON ?= python3
BIN := .venv/bin
# dvc.yaml calls `python`, MLflow's server calls `uvicorn`: both must be those of .venv.
export PATH := $(CURDIR)/$(BIN):$(PATH)
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock

.PHONY: help demo up test test-slow lint format bench bench-train

help:  ## list all targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: .venv/installed  ## install, run all stages on synthetic streets, print where to find the results
	dvc repro
	@python -m pipeline results

up: .venv/installed  ## start MLflow, Prefect and the scheduled retraining on this machine; ctrl-C stops all
	python -m pipeline up

test: .venv/installed-dev  ## run the fast tests
	pytest --numprocesses 2 --dist loadfile

test-slow: .venv/installed-dev  ## run the slow tests: complete runs of all stages on tiny data
	pytest -m slow --numprocesses 2 --dist loadfile

lint: .venv/installed-dev  ## run ruff and mypy
	ruff check
	ruff format --check
	mypy

format: .venv/installed-dev  ## fix and format with ruff
	ruff check --fix
	ruff format

bench: .venv/installed-dev  ## compare with transformers, plain losses and the official script; time `dvc repro`
	python -m benchmarks.network
	python -m benchmarks.vit
	python -m benchmarks.losses
	python -m benchmarks.metrics
	python -m benchmarks.data
	python -m benchmarks.synthetic
	python -m benchmarks.graph
	python -m benchmarks.serving
	GOMP_SPINCOUNT=20000 python -m benchmarks.video  # as the command line sets it

bench-train: .venv/installed-dev  ## images/s of training, compared with a plain loop of transformers' SegFormer
	python -m benchmarks.training --variant b0
	python -m benchmarks.training --variant b0 --profile
	python -m benchmarks.training --variant b3 --batch 1 --steps 2
	python -m benchmarks.training --variant b3 --batch 1 --profile

.venv/installed: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "Python 3.11 or 3.12 is required: make demo PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (a few minutes the first time) ..."
	$(PIP_INSTALL) --editable '.[pipeline]'
	touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing the dependencies of tests and benchmarks into .venv ..."
	$(PIP_INSTALL) --editable '.[pipeline,dev]'
	touch $@
