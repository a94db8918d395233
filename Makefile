# make help lists the targets. PYTHON chooses the interpreter, PROFILE the profile of study.yml.
# OUT is where a course is written. PYTHON_VERSION (of three numbers) and PLATFORM are those of
# a machine without internet.
PYTHON ?= python3
PROFILE ?= quick
OUT ?= build/course
PYTHON_VERSION ?= $(shell $(PYTHON) -c "import platform; print(platform.python_version())")
# Of the C library on that machine (2.28) and all before it: pip takes no older one by itself.
MINORS := 28 27 26 25 24 23 22 21 20 19 18 17
PLATFORM ?= $(MINORS:%=manylinux_2_%_x86_64) manylinux2014_x86_64 any
BIN := .venv/bin
DOWNLOAD = $(PYTHON) -m pip download --quiet --dest wheelhouse --implementation cp \
  --python-version $(PYTHON_VERSION) $(addprefix --platform ,$(PLATFORM))
INSTALL := $(BIN)/python -m pip install --quiet --constraint requirements.lock --editable

.PHONY: study verify test data book pdf course lab lint clean lock wheelhouse help
.DEFAULT_GOAL := help

study: .venv/ready ## set up, run the study (PROFILE=quick), build the book
	@$(BIN)/cbir study --profile $(PROFILE)

verify: .venv/ready ## run what is published again, and compare number by number
	@$(BIN)/cbir verify --profile $(PROFILE)

test: .venv/ready-test ## set up, run the tests
	@$(BIN)/python -m pytest

data: .venv/ready ## fetch MedNIST, the second data set, and check it
	@$(BIN)/cbir data fetch mednist

book: .venv/ready ## build the book from results/, without training
	@$(BIN)/cbir study --profile $(PROFILE) --published

pdf: .venv/ready ## the book as one PDF, from results/; needs Chromium
	@$(BIN)/cbir study --profile $(PROFILE) --published
	@$(BIN)/cbir job pdf --profile $(PROFILE)

course: .venv/ready ## write the exercises as notebooks, in build/course or OUT=FOLDER
	@$(BIN)/cbir course --out $(OUT)

lab: .venv/ready ## open the notebooks in JupyterLab
	@$(BIN)/jupytext-config --settings-file build/jupyter/labconfig/default_setting_overrides.json \
	  set-default-viewer markdown myst
	@JUPYTER_CONFIG_PATH="$(CURDIR)/build/jupyter" $(BIN)/jupyter lab notebooks/run_network.md

lint: .venv/ready-test ## check style and form of the code
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

clean: ## remove what was made, the environment included
	rm -rf build .venv .snakemake .pytest_cache .ruff_cache .hypothesis *.egg-info

lock: ## pin anew what is installed in .venv
	@$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock

# The second line gets what torch needs on a GPU, which requirements.lock leaves out.
wheelhouse: ## gather the packages for a machine without internet, in wheelhouse/
	@$(DOWNLOAD) --no-deps --prefer-binary --requirement requirements.lock "setuptools>=77" wheel
	@$(DOWNLOAD) --only-binary :all: --constraint requirements.lock torch
	@echo "there: PIP_NO_INDEX=1 PIP_FIND_LINKS=wheelhouse make study"

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp is written last: an installation that was interrupted is repeated.
.venv/ready: pyproject.toml requirements.lock
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "error: $$($(PYTHON) --version) is too old" >&2; \
	    echo "hint: make $(MAKECMDGOALS) PYTHON=python3.11 (or newer)" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(INSTALL) ".[book]"
	@touch $@

# What only tests use: the browser's driver, Milvus, nbgrader, references to compare with.
.venv/ready-test: .venv/ready
	$(INSTALL) ".[book,phantom,pretrained,hub,metric,milvus,teaching,cluster,test]"
	@touch $@
