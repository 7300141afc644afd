# Every command sets up what it needs. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help setup tutorial book notebooks test lab lint bench train-bundled doctor publish clean

VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
READY := $(VENV)/.ready

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# A Jupyter kernel called python3 in the home folder must not be taken for this environment's.
export JUPYTER_PREFER_ENV_PATH := 1

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r name text; do \
		printf '  make %-14s %s\n' "$$name" "$$text"; done

setup: $(READY) ## make .venv and install into it

tutorial: $(READY) ## run the seven notebooks, write pages to build/
	@$(RUN) -m notebooks.build tutorial

book: $(READY) ## the same pages in seconds, from the committed notebooks
	@$(RUN) -m notebooks.build book

notebooks: $(READY) ## build and run the committed notebooks; ONLY=04 for one
	@$(RUN) -m notebooks.build notebooks $(if $(ONLY),--only $(ONLY))

# Two runs, because the shape checker rewrites what compiling, exporting and pickling have to see as it is. Two processes
# share each, but for the tests that measure the machine or wait for a browser, which run alone.
PAIR := -n 2 --dist loadfile
test: $(READY) ## run all tests
	@$(RUN) -m tests.chromium
	@$(RUN) -m pytest tests --ignore=tests/unhooked --jaxtyping-packages=mqa_lib,beartype.beartype $(PAIR); hooked=$$?; \
	$(RUN) -m pytest tests/unhooked -m "not alone" $(PAIR); plain=$$?; \
	$(RUN) -m pytest tests/unhooked -m alone; alone=$$?; \
	exit $$((hooked > plain ? (hooked > alone ? hooked : alone) : (plain > alone ? plain : alone)))

lab: $(READY) ## open JupyterLab on notebook 1
	@$(RUN) -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks/01_see_it_first.ipynb

lint: $(READY) ## style and types
	@$(BIN)/ruff check .; style=$$?; $(BIN)/ruff format --check .; form=$$?; $(BIN)/mypy; types=$$?; \
	exit $$((style + form + types))

bench: $(READY) ## time the layers on this machine
	@$(RUN) -m mqa_lib bench

train-bundled: $(READY) ## train the bundled detectors again
	@$(RUN) -m mqa_lib train-bundled

doctor: $(READY) ## describe this machine, say what to mend
	@$(RUN) -m mqa_lib.doctor

publish: $(READY) ## REPO=owner/name: write the repository's address everywhere
	@$(RUN) -m notebooks.publish "$(REPO)"

clean: ## remove what was built (.venv stays)
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# PYTHON=python3.12 chooses; else the first of these that is new enough and can make an environment.
$(BIN)/python:
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
		if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "Making $(VENV) with $$("$$python" --version)."; \
			exec "$$python" -m venv $(VENV); \
		fi; \
	done; \
	echo "No Python >= 3.11 that can make an environment was found (tried: $(or $(PYTHON),python3, python3.13, python3.12, python3.11, python))." >&2; \
	echo "Install one (Debian, Ubuntu: sudo apt install python3 python3-venv; macOS: brew install python), or name it: make setup PYTHON=/path/to/python3" >&2; \
	exit 1

$(READY): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV): a few minutes, torch is the large part."
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(RUN) -m ensurepip >/dev/null  # making it was interrupted
	@$(RUN) -m pip install --quiet --editable '.[lab,dev]' --constraint constraints.txt
	@touch $@
