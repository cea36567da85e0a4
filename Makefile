# Every target creates what it needs; `make run` and `make test` are all a new clone takes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?=

.PHONY: run test test-postgres check format bench bench-peers screenshot torture soak

run: $(VENV)/.run
	@$(BIN)/python -m self_agent.libraries || true
	$(BIN)/python run.py $(if $(PORT),--port $(PORT))

test: $(VENV)/.dev
	@$(BIN)/python -m self_agent.libraries --tests || true
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-fail-under=90

# What `make test` tests over a store in memory, over PostgreSQL.
test-postgres: $(VENV)/.dev
	TEST_STORE=postgres $(BIN)/python -m pytest tests/dialects tests/turns tests/transfer tests/test_*.py

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A .venv is made anew when it has no Python and pip that work, or an old one.
USABLE = $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
ANEW := $(shell $(USABLE) || echo anew)

.PHONY: anew
anew:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "self_agent needs Python 3.10 or later: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test ! -e $(VENV) || echo "$(VENV) has no working Python 3.10 or later: it is made anew"
	@$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.run: requirements.txt $(ANEW)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt || { echo "self_agent: the packages above could not be installed; is there a network? Then: make $(MAKECMDGOALS)"; exit 1; }
	@touch $@

$(VENV)/.dev: requirements.txt requirements-postgres.txt requirements-dev.txt $(ANEW)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/.run

# All of them, or some: `make bench BENCH="writes http"`.
bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(BENCH)

$(VENV)/.bench: $(VENV)/.dev requirements-bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	@touch $@

# A picture of the page with a prepared chat, for the README.
screenshot: $(VENV)/.dev
	$(BIN)/python -m tests.page.screenshot

torture: $(VENV)/.dev
	$(BIN)/python -m tests.torture.crash --kills 1000

# Honest clients beside hostile ones.
soak: $(VENV)/.dev
	$(BIN)/python -m tests.torture.soak --seconds 300

# What cannot be installed here has a row that says so.
PEERS := litellm open-webui
bench-peers: $(VENV)/.bench
	-$(MAKE) --keep-going $(PEERS:%=.venv-%/.run)
	$(BIN)/python -m benchmarks peers

# The same Python for all, so that only the servers differ.
.venv-%/.run: requirements-%.txt | $(VENV)/.dev
	@test -x .venv-$*/bin/python || $(BIN)/python -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-$*.txt
	@touch $@
