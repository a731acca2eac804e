# Everything that is done here has a target. A fresh Debian with python3, git and make is enough to start.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo run test check proof bench docs counterparts lock clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
COUNTERPARTS := .counterparts
MONGO_JARS := $(COUNTERPARTS)/mongo/.fetched
OIDC_PROVIDER := $(COUNTERPARTS)/oauth/.fetched-9.13.3
# where a Node.js is put when the machine's own is too old for oidc-provider
export PATH := $(CURDIR)/$(COUNTERPARTS)/oauth/node_modules/.bin:$(PATH)
# where a container's image keeps Python from writing bytecode, each process would compile all of it anew
unexport PYTHONDONTWRITEBYTECODE

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  \033[1m%-13s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Install everything from the lock file into .venv

demo: $(INSTALLED) ## Run a flow of four modules against the laboratory, and show what landed where
	@$(BIN)/flow8 demo

run: $(INSTALLED) ## Serve the OAuth2 callback, with one worker beside it; Ctrl-C ends both
	@$(BIN)/flow8 worker & worker=$$!; trap 'kill $$worker 2>/dev/null; wait $$worker' EXIT; $(BIN)/flow8 serve

test: $(INSTALLED) ## The fast suite: about four minutes on two cores
	@$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not proof" $(ARGS)

check: $(INSTALLED) ## Lint, format, types, floors and shapes, generated files
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/pytest -q tests/test_floors.py tests/test_shape.py
	@$(BIN)/python -m flow8_modules.catalogue --check
	@$(BIN)/python docs/generate.py --check

proof: $(INSTALLED) ## The long proofs: kills, storms, fuzz; FLOW8_PROOF=short for a short form
	@$(BIN)/pytest -m proof $(ARGS)

bench: $(INSTALLED) ## Measure beside hand-written Celery tasks and dramatiq, in one go
	@$(BIN)/python -m benchmarks

docs: $(INSTALLED) ## Write the generated pages and the catalogue anew
	@$(BIN)/python -m flow8_modules.catalogue --write
	@$(BIN)/python docs/generate.py --write

counterparts: $(MONGO_JARS) $(OIDC_PROVIDER) ## Fetch servers that tests run against (needs maven and npm)

lock: $(BIN)/pip ## Write requirements.lock anew from pyproject.toml; what is pinned stays, unless UPGRADE=--upgrade
	@$(BIN)/pip install -q uv
	@$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 \
	    --generate-hashes --no-header --quiet $(UPGRADE) -o requirements.lock

clean: ## Remove what was built, installed and fetched; .flow8/ with its keys stays
	@rm -rf $(VENV) $(COUNTERPARTS) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- how it is made --------------------------------------------------------------------------------------------------

$(INSTALLED): requirements.lock pyproject.toml | $(BIN)/pip
	@echo "Installing into $(VENV) ..."
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

# Debian's python3 comes without venv and ensurepip.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or later is needed; this is $$($(PYTHON) --version). Name another: make PYTHON=..."; exit 1; }
	@if ! $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv; \
	    else \
	        echo "This python3 comes without venv. Install it, then run make again:  sudo apt-get install -y python3-venv"; \
	        exit 1; \
	    fi; \
	fi
	@$(PYTHON) -m venv --clear $(VENV)

$(MONGO_JARS): tests/counterparts/mongo/pom.xml
	@mkdir -p $(@D)
	@mvn -q -B -f $< dependency:copy-dependencies -DoutputDirectory=$(abspath $(@D))
	@touch $@

$(OIDC_PROVIDER):
	@mkdir -p $(@D)
	@npm install --prefix $(@D) --no-save --no-audit --no-fund --loglevel=error oidc-provider@9.13.3 \
	    $$(node -e 'process.stdout.write(URL.parse ? "" : "node@22")')
	@touch $@
