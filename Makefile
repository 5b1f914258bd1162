# make train [CONFIG=file.yaml] [ARGS="key=value ..."]   train (and, the first time, install)
# make test | lint                                        what CI runs
# make docs                                               the documentation, in docs/_build
PYTHON ?= $(firstword $(foreach v,3.11 3.12 3.13 3.14,$(shell command -v python$(v) 2>/dev/null)) python3)
CONFIG ?= agents/configs/minatar/pqn_hl_gauss.yaml
ARGS ?=
VENV := .venv
INSTALLED := $(VENV)/installed

.PHONY: train test lint docs
train: $(INSTALLED)
	$(VENV)/bin/valuelearn train $(CONFIG) $(ARGS)

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest --numprocesses auto --dist worksteal

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(INSTALLED)
	$(VENV)/bin/python -m sphinx -W --keep-going -q -b html docs docs/_build

$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "valuelearn needs Python 3.11 or newer; name one with PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --editable '.[atari,mujoco,fast,offline,dev]'
	touch $@
