# 'make' or 'make help' lists what there is. Every target that needs the environment sets it up first.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
CACHE := $(or $(TUNESMITH_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tunesmith)
# uv as it is on this machine, else the one that setup puts into the cache.
UV := $(or $(shell command -v uv),$(CACHE)/uv/bin/uv)
# Never a Python from the net: setup has found one on this machine.
export UV_PYTHON_DOWNLOADS := never
# What is started from here may need uv as well (tests fetch their servers with it).
export PATH := $(PATH):$(CACHE)/uv/bin
export PYTHON
# What torch and transformers are imported from is compiled once: from source each stage would take ten seconds longer.
unexport PYTHONDONTWRITEBYTECODE
BIN := $(VENV)/bin
OUT ?= out
WORKERS ?= 2

.PHONY: help setup prerequisites tools demo-model demo demo-cluster cluster cluster-down images test-parts test test-all lint style imports types generate check-generated install-yaml lock bench bench-cluster clean

help:  ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/synced tools  ## environment and llama.cpp's tools (again: seconds)

prerequisites:
	@requirements/system.sh

# Order-only: what the system has is asked each time, but makes nothing old.
$(VENV)/synced: requirements/dev.txt pyproject.toml | prerequisites
	@if [ ! -x "$(UV)" ]; then \
	  echo "setup: putting uv into $(CACHE)/uv"; \
	  "$$(requirements/python.sh)" -m venv "$(CACHE)/uv"; \
	  "$(CACHE)/uv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt; \
	fi
	@if [ ! -x "$(BIN)/python" ]; then \
	  echo "setup: making $(VENV) with $$(requirements/python.sh)"; \
	  "$(UV)" venv --quiet --python "$$(requirements/python.sh)" "$(VENV)"; \
	fi
	@echo "setup: installing the packages of requirements/dev.txt (5.5 GB the first time, half a minute to some minutes)"
	@"$(UV)" pip sync --quiet --python "$(BIN)/python" --require-hashes requirements/dev.txt
	@"$(UV)" pip install --quiet --python "$(BIN)/python" --no-deps --no-build-isolation --editable .
	@touch "$@"

tools: $(VENV)/synced
	@$(BIN)/python -m tunesmith.llama_cpp

demo-model: setup  ## the demo's model, into examples/models
	@[ -e $(CACHE)/models/SmolLM2-135M-Instruct ] || echo "making SmolLM2-135M-Instruct (once, half a minute)"
	@mkdir -p examples/models
	@ln -sfn "$$($(BIN)/python examples/smollm2.py)" examples/models/SmolLM2-135M-Instruct

demo: demo-model  ## SmolLM2 trained, quantized and measured: examples/quickstart.yaml into out/
	$(BIN)/tunesmith run examples/quickstart.yaml --output $(OUT)/
	@echo; echo "The files are in $(OUT)/; talk to the model with: $(BIN)/tunesmith chat $(OUT)/"

# The long tests stand together: a worker that has no more takes them over from the other.
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# Before the tests, whose time is bounded: the first building of a server is not.
test-parts: demo-model
	-@PYTHONPATH=tests $(BIN)/python -m support.server_binaries
	-@PYTHONPATH=tests $(BIN)/python -m support.control_plane

cluster: setup  ## a real Kubernetes for tests, with MinIO and an image registry (root)
	@PYTHONPATH=tests $(BIN)/python -m support.real_cluster up

cluster-down: $(VENV)/synced  ## end it, and leave nothing of it behind
	@PYTHONPATH=tests $(BIN)/python -m support.real_cluster down

demo-cluster: demo-model  ## the demo in a real Kubernetes: cluster, operator, one job, its files (root; images take half an hour)
	@PYTHONPATH=tests $(BIN)/python -m support.real_cluster.demo $(OUT)-cluster/

images: setup  ## build the images into the cluster's registry
	@PYTHONPATH=tests $(BIN)/python -m support.real_cluster.images

# Images are built before the first test: the bound of a test's time is not theirs.
E2E = $(BIN)/python -m pytest --override-ini=timeout_func_only=true tests/e2e

# Tests with real pods have one cluster, whose store and node some take away: they run one after another. Where images are
# made for the first time, on slow cores, they are not waited for longer than this: 'make images' is for that.
IMAGES_BY := $(shell echo $$(( $$(date +%s) + 40 * 60 )))

test: test-parts  ## the fast tests, with real pods too where a cluster can be made
	TUNESMITH_TEST_IMAGES_BY=$(IMAGES_BY) $(E2E) -m "not slow" || failed=1; \
	$(PYTEST) --ignore=tests/e2e -m "not slow" || failed=1; exit $${failed:-0}

test-all: test-parts  ## all tests
	-@PYTHONPATH=tests $(BIN)/python -m support.ollama
	$(PYTEST) --ignore=tests/e2e || failed=1; $(E2E) || failed=1; exit $${failed:-0}

lint: style imports  ## style and import rules

style: $(VENV)/synced
	$(BIN)/ruff check
	$(BIN)/ruff format --check

imports: $(VENV)/synced
	$(BIN)/lint-imports

types: $(VENV)/synced  ## mypy, strict
	$(BIN)/mypy

generate: $(VENV)/synced  ## write what is derived from the API and the operator's settings: CRD, JSON schemas, reference pages
	$(BIN)/python -m tunesmith_api.generate
	$(BIN)/python charts/generate.py

check-generated: $(VENV)/synced  ## fail if what is committed is not what 'make generate' writes
	$(BIN)/python -m tunesmith_api.generate --check
	$(BIN)/python charts/generate.py --check

install-yaml: setup  ## write charts/install.yaml, the chart for those without Helm
	@PYTHONPATH=tests $(BIN)/python -m support.install_yaml

LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock" --constraint requirements/measured.in

lock:  ## write requirements/*.txt anew (UPGRADE=1 takes the newest versions)
	$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml requirements/build.in requirements/download.in --extra trainer --extra operator --group dev -o requirements/dev.txt
	@# Parts of the whole: the same versions everywhere.
	$(LOCK) --constraint requirements/dev.txt pyproject.toml requirements/build.in --extra trainer -o requirements/trainer.txt
	$(LOCK) --constraint requirements/dev.txt pyproject.toml requirements/build.in --extra gguf -o requirements/gguf.txt
	$(LOCK) --constraint requirements/dev.txt pyproject.toml requirements/build.in --extra operator -o requirements/operator.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) requirements/uv.in -o requirements/uv.txt

bench: demo-model  ## 'tunesmith run' against the same work by hand (ENGINE=Unsloth: with Unsloth on both sides)
	$(BIN)/python bench/run.py $(ENGINE)

bench-cluster: demo-model  ## the operator's own cost, and the same job here and in the cluster (root)
	PYTHONPATH=tests $(BIN)/python bench/cluster.py

clean:  ## remove the environment (the cache stays)
	rm -rf "$(VENV)"
