# Feilun's commands. `make` alone explains them.
#
# Everything lives in .venv, made on first use from pyproject.toml with the versions of
# constraints.txt. Needed beforehand: Python 3.11 to 3.13 with its venv module, git, make.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test check soak bench format messages constraints clean

# The first Python that fits; `make PYTHON=/path/to/python3.12 …` chooses another.
PYTHON ?= $(firstword $(foreach name,python3.12 python3.11 python3.13 python3,\
	$(shell command -v $(name) >/dev/null 2>&1 && \
	$(name) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	>/dev/null 2>&1 && echo $(name))))
BIN := .venv/bin

# LightGBM wants the system's libgomp, which a bare machine lacks; scikit-learn brings one along.
export LD_LIBRARY_PATH := $(CURDIR)/.venv/native:$(LD_LIBRARY_PATH)

help: ## Explain these commands
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: .venv/demo ## Replay a year of real shop orders through a running platform (about 3 minutes)
	$(BIN)/feilun demo

test: check ## Run every check and every test
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup

check: .venv/dev ## Run the fast part of `make test`: format, lint, floors, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/basedpyright

soak: .venv/dev ## Run the long forms of the fault tests (about half an hour)
	$(BIN)/python -m pytest -q -m soak

bench: .venv/demo ## Measure against peers, each in an environment of its own; ONLY=a,b runs a few
	$(BIN)/python -m benchmarks --only "$(ONLY)"
	$(BIN)/python -m benchmarks.report

format: .venv/dev ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

messages: .venv/dev ## Gather the messages to translate and compile the translations
	$(BIN)/python tools/update_messages.py

constraints: .venv/dev ## Write the installed versions to constraints.txt
	$(BIN)/uv pip freeze --exclude-editable > constraints.txt

clean: ## Remove the environment and every cache
	rm -rf .venv .venv-bench .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .feilun feilun-demo

.venv/uv:
	@test -n "$(PYTHON)" || { echo "Feilun needs Python 3.11, 3.12 or 3.13; none was found." \
		"Install one, or name it: make PYTHON=/path/to/python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "Python's venv module is missing. On Debian and Ubuntu:" \
		"apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@touch $@

COMPILED := src/feilun/aggregation/_loops.pyx src/feilun/records/_loops.pyx

.venv/demo: .venv/uv pyproject.toml constraints.txt $(COMPILED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[demo]'
	@sh tools/native_libraries.sh .venv
	@$(BIN)/python -c 'from feilun.aggregation.compiled import loops; from feilun.records.compiled import loops as rows; \
		loops and rows or print("The inner loops could not be compiled: everything works, slower." \
		" On Debian and Ubuntu: apt-get install gcc python3-dev")'
	@touch $@

.venv/dev: .venv/demo
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'
	@touch $@
