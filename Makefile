# Everything a contributor runs. `make test` and `make demo` need nothing before them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
PYTEST_ARGS ?=
BENCH_ARGS ?=
CUDA_ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
# Last, so that the environment's CMake counts only where the machine has none.
export PATH := $(PATH):$(CURDIR)/$(VENV)/bin

NATIVE_SOURCES := CMakeLists.txt setup.py $(shell find csrc -type f 2>/dev/null)
STAMP_TOOLS := $(VENV)/.stamp-tools
STAMP_DEPS := $(VENV)/.stamp-deps
STAMP_NATIVE := $(VENV)/.stamp-native
STAMP_EMULATED := build/emulated/.stamp
EMULATED_SOURCES := $(shell find csrc cmake tests/device/emulated -type f 2>/dev/null)

heading = @printf '\n== %s ==\n' "$(1)"

.PHONY: help env build cuda emulated demo test lint types native pytest docs bench clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(STAMP_NATIVE) ## Make .venv with everything that development needs, and build the core

# torch first and pinned, so that no other package chooses its version.
$(STAMP_TOOLS): constraints.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt "setuptools>=77" wheel "pybind11>=2.12"
	command -v cmake >/dev/null || $(PIP) install cmake
	@touch $@

# An editable install builds the core as well, so both stamps are fresh after it.
$(STAMP_DEPS): pyproject.toml constraints.txt | $(STAMP_TOOLS)
	$(PIP) install -c constraints.txt --no-build-isolation -e ".[dev]"
	@touch $@ $(STAMP_NATIVE)

# Make decides before the rule above has run; the test keeps it from building twice.
$(STAMP_NATIVE): $(NATIVE_SOURCES) | $(STAMP_DEPS)
	@if [[ ! -f $@ || -n "$$(find $(NATIVE_SOURCES) -newer $@ -print -quit)" ]]; then \
	  echo "building the native core"; \
	  $(PIP) install --no-build-isolation --no-deps -e . && touch $@; \
	fi

build: env ## Rebuild the native core where its sources changed

cuda: env ## Build the CUDA module into neural_fields/ (needs nvcc)
	@command -v nvcc >/dev/null || { \
	  echo "make cuda: nvcc is not on PATH; install the CUDA toolkit or add its bin folder to PATH." >&2; exit 1; }
	cmake -S . -B build/cuda -DNF_CUDA=ON -DNF_BIND=OFF -DCMAKE_BUILD_TYPE=Release $(CUDA_ARGS) \
	  -DPython_EXECUTABLE=$(CURDIR)/$(PY) -Dpybind11_DIR="$$($(PY) -m pybind11 --cmakedir)" \
	  -DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$(CURDIR)/neural_fields
	cmake --build build/cuda --target _cuda --parallel

emulated: $(STAMP_EMULATED) ## Build the CUDA kernels for the host, as tests run them (needs no nvcc)

$(STAMP_EMULATED): $(EMULATED_SOURCES) | $(STAMP_DEPS)
	@echo "building the CUDA kernels for the host"
	@cmake -S . -B build/emulated -DNF_EMULATED=ON -DNF_BIND=OFF -DCMAKE_BUILD_TYPE=Release \
	  -DPython_EXECUTABLE=$(CURDIR)/$(PY) -Dpybind11_DIR="$$($(PY) -m pybind11 --cmakedir)" \
	  -DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$(CURDIR)/build/emulated >build/emulated.log
	@cmake --build build/emulated --target _emulated --parallel >>build/emulated.log || { cat build/emulated.log; exit 1; }
	@touch $@

demo: env ## Make a scene, fit a field to it, and write a report with pictures and video
	$(PY) examples/demo.py

test: ## Lint, types, the core under gcc and clang, build, and all tests
	@$(MAKE) env
	@$(MAKE) lint
	@$(MAKE) types
	@$(MAKE) native
	@$(MAKE) pytest

lint: env ## Check style and formatting
	$(call heading,lint)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: env ## Check the types
	$(call heading,types)
	@rm -rf build/types && mkdir -p build/types/neural_fields
	@ln -s $(CURDIR)/neural_fields/* $(addprefix $(CURDIR)/,scenes viewer benchmarks) build/types/neural_fields/
	cd build/types && MYPYPATH=. $(CURDIR)/$(VENV)/bin/mypy --config-file $(CURDIR)/pyproject.toml -p neural_fields

# The core by itself, without Python, with every warning an error.
native: env ## Compile the core alone under gcc and clang
	@mkdir -p build
	@for compiler in g++ clang++; do \
	  printf '\n== core alone, %s ==\n' $$compiler; \
	  command -v $$compiler >/dev/null || { echo "SKIPPED: $$compiler is not installed"; continue; }; \
	  CXX=$$compiler cmake -S . -B build/native-$$compiler -DNF_BIND=OFF -DNF_WERROR=ON \
	    -DCMAKE_BUILD_TYPE=Release >build/native-$$compiler.log 2>&1 \
	    || { cat build/native-$$compiler.log; exit 1; }; \
	  cmake --build build/native-$$compiler --parallel; \
	done

pytest: env emulated ## Run the tests; PYTEST_ARGS selects
	$(call heading,tests)
	$(PY) -m pytest -n 2 --dist loadfile --device emulated $(PYTEST_ARGS)

docs: env ## Check the documentation: snippets, commands, links, docstring examples
	$(PY) -m pytest tests/test_docs.py $(PYTEST_ARGS)

bench: env ## Print the benchmark table; BENCH_ARGS selects
	$(VENV)/bin/nf bench $(BENCH_ARGS)

clean: ## Remove what was built; .venv stays
	rm -rf build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -prune -exec rm -rf {} +
	rm -f neural_fields/*.so $(STAMP_NATIVE)
