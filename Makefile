# The front door. `make` alone lists what there is.
SHELL := /bin/bash
PYTHON ?= python3
PORT ?= 8443
MODEL ?= digits
# A shell completes the folder's name with a slash.
override MODEL := $(patsubst %/,%,$(MODEL))
PARTITIONS ?= 5
SECONDS ?= 15
VENV := .venv/.ready
EXTRAS := .venv/.extras-ready

.DEFAULT_GOAL := help
.PHONY: help setup demo serve image test test-large test-browser fuzz lint types check bench bench-full partitions lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV) ## make .venv with everything pinned
$(VENV): requirements.lock ci/setup.sh
	@PYTHON=$(PYTHON) ci/setup.sh

# What fuzzing and the browser's tests need: 90 MB that nobody else has to fetch.
$(EXTRAS): $(VENV) ci/requirements.lock ci/setup.sh
	@ci/setup.sh --extras

demo: $(VENV) ## build everything, classify a picture over TLS, prove the accuracy
	@MODEL=$(MODEL) PORT=$(PORT) ci/demo.sh

serve: $(VENV) ## the same image, kept running, with curl lines to copy
	@MODEL=$(MODEL) PORT=$(PORT) ci/serve.sh

image: $(VENV) ## key, bundle and Occlum instance in build/image
	@MODEL=$(MODEL) PORT=$(PORT) ci/image.sh

test: $(VENV) ## run the tests
	@.venv/bin/python -m pytest

test-large: $(VENV) ## run the tests that take minutes or gigabytes
	@.venv/bin/python -m pytest -m large

test-browser: $(EXTRAS) ## run the tests of the page; they need Debian's package chromium
	@.venv/bin/python -m pytest -m browser tests/browser

fuzz: $(EXTRAS) ## fuzz every target for SECONDS (15)
	@FUZZ_SECONDS=$(SECONDS) ci/fuzz.sh

lint: $(VENV) ## check style
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .

types: $(VENV) ## check types
	@.venv/bin/mypy

check: lint types test ## all three

bench: $(VENV) ## measure on small models; results/ gets figures and one page (10 minutes)
	@tools/benchmark.py all

bench-full: $(VENV) ## the same on the whole zoo (hours)
	@tools/benchmark.py all --full

partitions: $(VENV) ## partition the sample model anew
	@tools/partition.py partitions/digits/model.onnx -o partitions/digits --partitions $(PARTITIONS)

lock: $(VENV) ## resolve the pinned requirements anew (needs the network)
	@ci/lock.sh

clean: ## remove what was built, keep keys
	@rm -rf build/image build/*.bundle build/wheels build/python dist
