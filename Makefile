.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## everything into .venv, from the pinned files, by plain pip

$(VENV)/.installed: requirements/dev.txt pyproject.toml deploy/venv.sh
	PYTHON="$(PYTHON)" sh deploy/venv.sh $(VENV) requirements/dev.txt
	@touch $@

demo: setup ## start everything on this machine, archive 24 clips, check each one
	$(BIN)/receiver demo

demo-all: setup ## the same with every provider that has a profile, each with its quirks
	$(BIN)/receiver demo --all-providers

run: setup ## run the service (embedded database and store unless settings name others)
	$(BIN)/receiver serve

test: setup ## the tests, but for those of outages that last minutes
	$(BIN)/python -m pytest -n 3 --dist worksteal -m "not long"

test-long: setup ## outages of provider and bucket that last
	$(BIN)/python -m pytest -m long

test-fast: setup ## the pure rules: no database, no network, seconds
	$(BIN)/python -m pytest -q --disable-socket tests/core tests/dialects

check: setup ## format, lint, types, import rules, module sizes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.sizes
	@$(MAKE) --no-print-directory deploy-check docs

deploy-check: setup ## images, units, alerts and the board, without a container engine
	sh deploy/check.sh $(BIN)

docs: setup ## the site, strictly: no dead link, nothing fetched from elsewhere
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --clean
	$(BIN)/python -m tools.documents --site site

docs-serve: setup ## the site on this machine, made anew at each change
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

docs-generate: setup ## the pages that are made from the code, after a change of it
	$(BIN)/python -m receiver.web.openapi > docs/openapi.json
	$(BIN)/python -m tools.documents

recordings: setup ## docs/assets: what real commands show on a terminal
	$(BIN)/python -m tools.recordings

coverage-page: setup ## docs/coverage.md anew, from what the tests really drive
	$(BIN)/python -m tools.evidence

bench: .venv-bench/.installed ## measure speed against floors and baselines: docs/benchmarks.md
	.venv-bench/bin/python -m bench

chaos: setup ## kills and faults at once, MINUTES= of them from SEED=, and a count of what was lost
	$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),2) $(if $(SEED),--seed $(SEED))

.venv-bench/.installed: requirements/bench.txt pyproject.toml deploy/venv.sh
	PYTHON="$(PYTHON)" sh deploy/venv.sh .venv-bench requirements/bench.txt
	@touch $@

requirements: ## pin anew (needs uv)
	uv pip compile -q --fork-strategy fewest --universal --python-version 3.11 --generate-hashes --no-emit-index-url pyproject.toml -o requirements/main.txt
	uv pip compile -q --fork-strategy fewest --universal --python-version 3.11 --generate-hashes --no-emit-index-url pyproject.toml --extra local -c requirements/main.txt -o requirements/local.txt
	uv pip compile -q --fork-strategy fewest --universal --python-version 3.11 --generate-hashes --no-emit-index-url pyproject.toml --extra local --extra video --extra test --extra check -c requirements/local.txt -o requirements/dev.txt
	uv pip compile -q --fork-strategy fewest --universal --python-version 3.11 --generate-hashes --no-emit-index-url pyproject.toml --extra local --extra bench -c requirements/dev.txt -o requirements/bench.txt

.PHONY: help setup demo demo-all run test test-long test-fast check deploy-check docs docs-serve docs-generate recordings coverage-page bench chaos requirements
