# Every target does its own set-up: a machine with Python 3.10 or later and make is enough, and the network is
# needed once. Settings:
#   PYTHON=python3.12         which interpreter; a change rebuilds the virtual environment
#   VENV=.venv                where the virtual environment goes
#   PYTEST_ARGS, DEMO_ARGS, BENCH_ARGS    passed on

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
CREATED := $(VENV)/.created-$(VERSION)
READY := $(VENV)/.installed-$(VERSION)
RUN := $(VENV)/bin/python
COVERAGE := --cov --cov-report=term

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test check lint types coverage format bench proxies stress clean

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

setup: $(READY) ## make the virtual environment (every other target does it when needed)

demo: $(READY) ## 50 threads x 20,000 messages through one connection, checked by the server
	@$(RUN) benchmarks/serialized_writes.py $(DEMO_ARGS)

test: $(READY) ## run the tests
	@$(RUN) -m pytest $(PYTEST_ARGS)

check: lint types coverage ## all checks: ruff, mypy --strict, tests, coverage of at least 95 %

lint: $(READY)
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

types: $(READY)
	@$(RUN) -m mypy

coverage: $(READY)
	@$(RUN) -m pytest $(COVERAGE) $(PYTEST_ARGS)

format: $(READY) ## put the source into the form that make check wants
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

bench: $(READY) ## measure against websocket-client and websockets; table, JSON and chart
	@$(RUN) -m benchmarks.bench $(BENCH_ARGS)

proxies: $(READY) ## install nginx and HAProxy (Debian, as root) and run the tests behind them
	apt-get update
	apt-get install -y --no-install-recommends nginx-light haproxy
	@WSCLIENT_REQUIRE_PEERS=nginx,haproxy $(RUN) -m pytest tests/test_external_peers.py -k "nginx or haproxy" $(PYTEST_ARGS)

stress: $(READY) ## the full load: 50 threads x 20,000 over TCP and TLS, and the long interleavings
	@WSCLIENT_STRESS=1 $(RUN) -m pytest tests/test_stress.py --timeout 900 $(PYTEST_ARGS)

clean: ## remove everything that make made
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* htmlcov
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two steps, so that a changed setup.cfg installs into the environment that is there: it may be the active one.
$(CREATED):
	@$(PYTHON) -c '' || { echo "make: cannot run '$(PYTHON)': install Python 3.10 or later," \
	    "or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "make: '$(PYTHON)' is Python" \
	    "$(VERSION); wsclient needs 3.10 or later: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: '$(PYTHON)' cannot make virtual" \
	    "environments (no ensurepip or venv module). On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Making $(VENV) with Python $(VERSION) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(READY): $(CREATED) setup.cfg setup.py
	@echo "Installing what tests and benchmarks need into $(VENV) (once; needs the network) ..."
	@$(RUN) -m pip install --quiet --disable-pip-version-check --use-pep517 --editable '.[fast,test,bench]'
	@touch $@
