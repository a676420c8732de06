# Every command says what it does; `make` alone lists them. The first one that needs it makes `.venv`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
UV_VERSION := $(shell sed -n 's/^uv==//p' constraints.txt)
BIN := .venv/bin
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/otel-empathy
# What this machine trusts beside the public authorities, such as a company's proxy, is known to its own store alone.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt),)
export UV_SYSTEM_CERTS ?= true
endif
STAMP := .venv/.installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

.PHONY: help demo test check bench testbed tools docs clean

help: ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 12

$(STAMP):
	@echo "== making .venv (uv $(UV_VERSION), versions from constraints.txt)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.11")'
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.prefix == sys.base_prefix)' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet -c constraints.txt -b constraints.txt -e '.[dev]'
	@rm -f .venv/.installed-* && touch $@

demo: $(STAMP) ## run an example agent against a local model server, then show its trace and its usage
	@$(BIN)/otel-empathy demo

test: $(STAMP) ## everything that CI runs: unit tests, flows against real components, faults
	@echo "== tools"
	@$(PYTHON) .ci/tools.py install || { test "$$TOOLS_REQUIRED" != 1 && \
		echo "== tools are missing, see above: the tests that need them are skipped and say so"; }
	@echo "== pytest"
	@$(BIN)/python -m pytest

check: $(STAMP) ## ruff, ruff format, mypy strict, layers, generated pages
	@echo "== ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "== mypy"
	@$(BIN)/mypy
	@echo "== layers and generated pages"
	@$(BIN)/python -m pytest -q tests/test_layers.py tests/test_docs.py

bench: $(STAMP) ## ratios against the stock SDK, measured side by side in one run
	@$(BIN)/python benchmarks/run.py

testbed: $(STAMP) ## what arrives under each fault, for the stock SDK and for us
	@$(BIN)/python benchmarks/testbed.py

tools: ## bring the Collector, Jaeger, Rotel and the rest into .tools, from the cache where possible
	@$(PYTHON) .ci/tools.py install

docs: $(STAMP) ## write the generated pages anew
	@$(BIN)/python docs/generate.py

clean: ## remove what was made here; the cache of tools stays
	rm -rf .venv .tools .pytest_cache .mypy_cache .ruff_cache .hypothesis
