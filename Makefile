# Everything a new machine needs is made here. PYTHON picks the interpreter, 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8080
AIDER := $(shell $(PYTHON) -c 'import sys; sys.version_info < (3, 13) and print(".cache/agents/aider/.done")')

COMPILED := .cache/compiled

.PHONY: run compiled wheel test agents unit check faults bench bench-peers profile format lock proxies clean
.DELETE_ON_ERROR:

run: compiled
	PORT=$(PORT) PYTHONSAFEPATH=1 PYTHONPATH=$(COMPILED) $(BIN)/python -m trollproxy serve

# The package with its hot path as machine code (docs/decisions/0013); as it is where there is no C compiler.
compiled: $(COMPILED)/.done

wheel: $(VENV)/.build
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

# The processes that the tests start run the compiled package; what runs in pytest itself is the source.
test: $(VENV)/.dev compiled .cache/mongod/mongod .cache/sdks/.done agents
	PROGRAM=$(CURDIR)/$(COMPILED) $(BIN)/pytest

agents: .cache/agents/npm/.done $(AIDER)

unit: $(VENV)/.dev
	$(BIN)/pytest tests/unit

check: $(VENV)/.dev
	$(BIN)/ruff check && $(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports && $(BIN)/pytest tests/test_tidy.py

faults: export PROGRAM := $(CURDIR)/$(COMPILED)
faults: $(VENV)/.dev compiled .cache/mongod/mongod
	$(BIN)/python -m tests.faults.kills --gateway-kills 500
	$(BIN)/python -m tests.faults.kills --store mongo --gateway-kills 500 --mongod-kills 200
	$(BIN)/python -m tests.faults.flaky && $(BIN)/python -m tests.faults.dying_proxies

bench: $(VENV)/.dev compiled .cache/bench/source
	PROGRAM=$(CURDIR)/$(COMPILED) $(BIN)/python -m tests.bench.run --write

bench-peers: $(VENV)/.dev compiled .cache/bench/source
	PROGRAM=$(CURDIR)/$(COMPILED) $(BIN)/python -m tests.bench.peers --write

profile: $(VENV)/.dev compiled .cache/bench/source
	PROGRAM=$(CURDIR)/$(COMPILED) $(BIN)/python -m tests.bench.profile --write

format: $(VENV)/.dev
	$(BIN)/ruff format && $(BIN)/ruff check --fix

lock: $(VENV)/.dev
	$(BIN)/pip install --quiet uv && $(BIN)/python scripts/lock.py

proxies: $(VENV)/.dev
	$(BIN)/pytest tests/integration/real_proxies.py

clean:
	rm -rf $(VENV) .cache

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trollproxy needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

# The locks name everything with its hash, so nothing is left for pip to resolve: a newer release must not stop a set-up.
PIP_SYNC = pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r

$(VENV)/.runtime: requirements.lock | $(VENV)/bin/python
	$(BIN)/$(PIP_SYNC) $< && touch $@

$(VENV)/.dev: requirements-dev.lock | $(VENV)/bin/python
	$(BIN)/$(PIP_SYNC) $< && touch $@ $(VENV)/.runtime $(VENV)/.build

$(VENV)/.build: requirements-build.lock $(VENV)/.runtime
	$(BIN)/$(PIP_SYNC) $< && touch $@

$(COMPILED)/.done: setup.py $(shell find trollproxy -name '*.py' -o -name '*.sql') | $(VENV)/.build
	rm -rf $(@D) && mkdir -p $(@D)
	$(BIN)/python setup.py --quiet build --build-base .cache/build --build-lib $(@D) && touch $@

.cache/mongod/mongod: scripts/get_mongod.py scripts/mongod-requirements.txt | $(VENV)/.dev
	$(BIN)/python scripts/get_mongod.py && touch $@

# JavaScript SDKs (83 MB, 10 s) and the coding agents: Claude Code, Codex and Cline (916 MB, 20 s), aider (687 MB, 60 s).
# aider itself refuses Python 3.13 and newer; its tests say so there, and fail on an older Python that lacks it.
.cache/sdks/.done: tests/sdks/package.json tests/sdks/package-lock.json | $(VENV)/.dev
	$(NPM_CI)

.cache/agents/npm/.done: tests/agents/package.json tests/agents/package-lock.json | $(VENV)/.dev
	$(NPM_CI)

.cache/agents/aider/.done: tests/agents/aider.lock
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/$(PIP_SYNC) $< && touch $@

.cache/bench/source: tests/bench/source.c
	mkdir -p $(@D) && cc -O2 -Wall -o $@ $<

NPM_CI = mkdir -p $(@D) && cp $^ $(@D) && $(BIN)/npm ci --prefix $(@D) --no-audit --no-fund --loglevel=error && touch $@
