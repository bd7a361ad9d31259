# Slipstream. `make help` lists every target.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
QUESTION ?= How does add_middleware register a middleware?
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run test test-fast check format bench lock clean system browser nsys

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  \033[36m%-12s\033[0m %s\n", $$1, $$2}'

run: $(VENV)/.installed-run ## Build, index and serve the default on 127.0.0.1:8080, ask one question, stay up until Ctrl-C
	@$(BIN)/slipstream register build/samples/code-assistant-lora --name code-assistant --alias production
	@$(BIN)/slipstream build default
	@$(BIN)/slipstream index pkg:fastapi pkg:starlette --collection code
	@exec $(BIN)/slipstream serve --ask "$(QUESTION)"

test: $(VENV)/.installed-dev ## Run every test, the real Triton, Qdrant Edge, MLflow and ONNX Runtime among them
	@$(BIN)/python -m pytest

test-fast: $(VENV)/.installed-dev ## Run the tests that need no built bundle
	@$(BIN)/python -m pytest -m "not integration"

check: $(VENV)/.installed-dev .cache/typing/slipstream ## Lint, format check and strict types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.installed-dev ## Format and fix what can be fixed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.installed-dev ## Print every number of the README (about an hour, on an idle machine, after `make run`)
	@$(BIN)/python -m tests.benchmarks.startup
	@$(BIN)/python -m tests.benchmarks.serving
	@$(BIN)/python -m tests.benchmarks.indexing
	@$(BIN)/python -m tests.benchmarks.scale --serve
	@$(BIN)/python -m tests.benchmarks.freshness
	@$(BIN)/python -m tests.benchmarks.constrained
	@$(BIN)/python -m tests.benchmarks.citations
	@$(BIN)/python -m tests.benchmarks.answers
	@$(BIN)/python -m tests.benchmarks.loadtest.verdicts
	@$(BIN)/python -m tests.benchmarks.profiling.telemetry
	@$(BIN)/python -m tests.benchmarks.profiling.overhead

lock: $(VENV)/.installed-dev ## Write constraints.txt from what is installed (after `make test` passed on it)
	@$(BIN)/pip freeze --exclude-editable | sed 's/^\(torch==[^+]*\)+.*/\1/' > constraints.txt

clean: ## Remove the virtual environment and caches; run state in var/ stays
	@rm -rf $(VENV) .cache *.egg-info

# --- how the environment is made ---------------------------------------------------------------------------------

comma := ,

# optimum-intel pulls torchvision in. PyPI's is built for CUDA, and beside a CPU build of torch it breaks the import of
# every transformers model; nothing here uses it.
without-torchvision = $(BIN)/pip uninstall --quiet --yes torchvision 2>/dev/null

# Without its requirements; pyproject.toml says why and lists those that it imports.
with-deepeval = $(BIN)/pip install --quiet --no-deps -c constraints.txt deepeval

define install
	@$(MAKE) --no-print-directory system
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing ($(1)) ..."
	@$(BIN)/pip install --quiet -c constraints.txt -e '.[$(1)]'
	@$(without-torchvision)
	@$(with-deepeval)
	@touch $(2)
endef

$(VENV)/.installed-run: pyproject.toml constraints.txt
	$(call install,serve$(comma)build$(comma)loadtest,$@)

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	@$(MAKE) --no-print-directory browser nsys
	$(call install,serve$(comma)build$(comma)tensorrt-llm$(comma)loadtest$(comma)distributed$(comma)dev,$@ $(VENV)/.installed-run)

# mypy sees the repository root as the package `slipstream` through this link.
.cache/typing/slipstream:
	@mkdir -p .cache/typing && ln -sfn ../.. $@

# Two things a minimal Debian or Ubuntu lacks: `venv`, and the shared libpython that Triton's Python backend links.
system:
	@test -n "$(PYTHON)" || { echo "Python 3.11 was not found: apt-get install python3.11, or make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "Slipstream needs Python 3.11; $(PYTHON) is $$($(PYTHON) -V 2>&1). Use: make PYTHON=/path/to/python3.11"; exit 2; }
	@missing=; \
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || missing="$$missing python3.11-venv"; \
	$(PYTHON) -c 'import ctypes, os, sysconfig as s; n = "libpython3.11.so.1.0"; p = os.path.join(s.get_config_var("LIBDIR"), n); ctypes.CDLL(p if os.path.exists(p) else n)' 2>/dev/null || missing="$$missing libpython3.11"; \
	if [ -n "$$missing" ]; then \
	  sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
	  echo "Installing$$missing ..."; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  { $$sudo apt-get update -qq && $$sudo apt-get install -y -qq $$missing >/dev/null; } || \
	    { echo "Could not install$$missing; run: sudo apt-get install$$missing"; exit 2; }; \
	fi

# The tests look at a report in a real browser. They are skipped, and say so, where there is none and none can be installed.
browser:
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do \
	  command -v $$name >/dev/null && exit 0; \
	done; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
	echo "Installing chromium ..."; \
	export DEBIAN_FRONTEND=noninteractive; \
	{ $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
	  echo "Could not install chromium; the tests that need a browser will be skipped. To run them: sudo apt-get install chromium"

# Nsight Systems, for `slipstream profile nsys`: from PATH, else Debian's, unpacked into .cache. Tests that need it are
# skipped, and say so, where there is none and none can be had.
nsys: ## Unpack Nsight Systems for `slipstream profile nsys`, unless there is one (172 MB, no root needed)
	@command -v nsys >/dev/null || test -x .cache/nsys/usr/bin/nsys || { \
	  echo "Unpacking Nsight Systems into .cache/nsys ..."; \
	  ./profiling/nsys/install.sh .cache/nsys || \
	    echo "Could not get Nsight Systems; the tests that need it will be skipped. To run them: install nsight-systems-cli from NVIDIA's repository"; \
	}
