# Everything a new machine needs is made here. PYTHON picks the interpreter, 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8080

.PHONY: run test unit check faults format lock clean
.DELETE_ON_ERROR:

run: $(VENV)/.runtime
	PORT=$(PORT) $(BIN)/python -m trollproxy serve

test: $(VENV)/.dev .cache/mongod/mongod
	$(BIN)/pytest

unit: $(VENV)/.dev
	$(BIN)/pytest tests/unit

check: $(VENV)/.dev
	$(BIN)/ruff check && $(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports && $(BIN)/pytest tests/test_tidy.py

faults: $(VENV)/.dev .cache/mongod/mongod
	$(BIN)/python -m tests.faults.kills --gateway-kills 500
	$(BIN)/python -m tests.faults.kills --store mongo --gateway-kills 500 --mongod-kills 200

format: $(VENV)/.dev
	$(BIN)/ruff format && $(BIN)/ruff check --fix

lock: $(VENV)/.dev
	$(BIN)/pip install --quiet uv && $(BIN)/python scripts/lock.py

clean:
	rm -rf $(VENV) .cache

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trollproxy needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.lock | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && touch $@

$(VENV)/.dev: requirements-dev.lock | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock && touch $@ $(VENV)/.runtime

.cache/mongod/mongod: scripts/get_mongod.py scripts/mongod-requirements.txt | $(VENV)/.dev
	$(BIN)/python scripts/get_mongod.py && touch $@
