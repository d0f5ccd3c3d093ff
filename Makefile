# Every target does its own set-up: a machine with Python 3.10 or later and make is enough, and the network is
# needed once. Settings:
#   PYTHON=python3.12         which interpreter; a change rebuilds the virtual environment
#   VENV=.venv                where the virtual environment goes
#   SECONDS=60                how long to fuzz (60 unless told), to soak (600), or to load (300)
#   PYTEST_ARGS, DEMO_ARGS, BENCH_ARGS, CONFORMANCE_ARGS, NETNS_ARGS, SOAK_ARGS, LOAD_ARGS, NOX_ARGS   passed on

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=
CONFORMANCE_ARGS ?=
NETNS_ARGS ?=
SOAK_ARGS ?=
LOAD_ARGS ?=
NOX_ARGS ?=
SECONDS ?=

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
CREATED := $(VENV)/.created-$(VERSION)
READY := $(VENV)/.installed-$(VERSION)
RUN := $(VENV)/bin/python
COVERAGE := --cov --cov-report=term
PROXY_PACKAGES := nginx-light haproxy tinyproxy squid microsocks dante-server openssh-client openssh-server
PROXIES := node,nginx,nginx-node,haproxy,tinyproxy,squid,microsocks,dante,openssh
PROXY_TESTS := tests/test_external_peers.py tests/test_external_proxies.py tests/test_certificates.py

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test check lint types coverage format load bench bench-load proxies stress clean conformance conformance-all fuzz reliability netns soak

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

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

.PHONY: test-install test-all
test-install: $(READY) ## build, and install the wheel into every Python from 3.10 up; types as users see them
	@$(RUN) -m nox --tags install $(NOX_ARGS)

test-all: $(READY) ## ... and all tests against the installed wheel, in each of them (8 minutes a Python)
	@$(RUN) -m nox $(NOX_ARGS)

format: $(READY) ## put the source into the form that make check wants
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

bench: $(READY) ## measure against websocket-client and websockets; table, JSON and chart
	@$(RUN) -m benchmarks.bench $(BENCH_ARGS)

.PHONY: docs
docs: $(READY) ## the documentation as HTML, in build/docs; a warning is an error
	@$(RUN) -m sphinx --fresh-env --fail-on-warning --keep-going --nitpicky --quiet -b html docs build/docs
	@echo "open build/docs/index.html"

# The tests start what they need; SYSTEMD_OFFLINE: Debian would start all of it at once, for everybody.
proxies: $(READY) ## install proxies (Debian, as root) and run the tests that go through them
	apt-get update
	SYSTEMD_OFFLINE=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(PROXY_PACKAGES)
	command -v npm || apt-get install -y --no-install-recommends nodejs npm
	install -d -m 0755 /run/sshd
	@WSCLIENT_REQUIRE_PEERS=$(PROXIES) $(RUN) -m pytest $(PROXY_TESTS) $(PYTEST_ARGS)

stress: $(READY) ## the full load: 50 threads x 20,000 over TCP and TLS, and the long interleavings
	@WSCLIENT_STRESS=1 $(RUN) -m pytest tests/test_stress.py --timeout 900 $(PYTEST_ARGS)

conformance: $(READY) ## the Autobahn Testsuite, but for most of the compressed messages; needs a Python 2.7
	@PYTHONPATH=tests $(RUN) -m conformance $(CONFORMANCE_ARGS)

conformance-all: $(READY) ## all of it, for the other clients too; writes docs/conformance.md (40 minutes)
	@PYTHONPATH=tests $(RUN) -m conformance --all --clients wsclient,websocket-client,websockets $(CONFORMANCE_ARGS)

fuzz: $(READY) ## look for bytes of a server that break the decoder, with atheris, for SECONDS=60
	@$(RUN) -c 'import atheris' 2>/dev/null || $(RUN) -m pip install --quiet --disable-pip-version-check \
	    --only-binary atheris --use-pep517 --editable '.[fuzz]' || { echo "make: atheris cannot be installed on" \
	    "Python $(VERSION) here: it comes for 3.10 to 3.13 on Linux: make fuzz PYTHON=python3.12" >&2; exit 1; }
	@PYTHONPATH=tests $(RUN) -m fuzz --seconds $(or $(SECONDS),60)

soak: $(READY) ## everything at once for SECONDS=600: mixed traffic, faults at random; nothing may grow or be lost
	@PYTHONPATH=tests:. $(RUN) -m reliability.soak --seconds $(or $(SECONDS),600) --keep $(SOAK_ARGS)

reliability: $(READY) ## faults of every kind, every message accounted for; writes docs/reliability.md
	@$(RUN) -m tests.reliability all

netns: $(READY) ## loss, delay and a pulled cable between two network namespaces (root)
	@$(RUN) -m tests.reliability loss --hold $(NETNS_ARGS)
	@$(RUN) -m tests.reliability unplug --hold $(NETNS_ARGS)

load: $(READY) ## wsclient load against the classroom's hub for SECONDS=300: accounts, memory, report
	@$(RUN) -m benchmarks.classroom_load --seconds $(or $(SECONDS),300) $(LOAD_ARGS)

bench-load: $(READY) ## how much load one process can generate, compared with other generators; prints a table
	@$(RUN) -m benchmarks.load_generators $(BENCH_ARGS)

clean: ## remove everything that make made
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* htmlcov
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz load-report
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
	@$(RUN) -m pip install --quiet --disable-pip-version-check --use-pep517 --editable '.[fast,test,bench,docs,release]'
	@touch $@
