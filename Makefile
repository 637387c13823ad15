# One verb each. `make demo` and `make test` need nothing but Python 3.11; `make check` also needs Node (for buf).
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BUF := node_modules/.bin/buf

.PHONY: demo test test-all check mutants conformance generate bench clean

$(STAMP): pyproject.toml constraints.txt
	@echo "Setting up $(VENV) through pip and its own index settings: about 300 MB to download with a CPU build of PyTorch."
	@echo "On Linux, pip's usual index gives PyTorch with CUDA, several GB; README says how to get the CPU build first."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(BUF): package.json package-lock.json
	npm ci --no-audit --no-fund --loglevel=error
	@touch $@

demo: $(STAMP)
	$(BIN)/asynclm demo

# The language and the session machine are held to full branch coverage by their own tests.
test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow" --ignore tests/cml --ignore tests/session
	$(BIN)/python -m pytest -m "not slow" tests/cml tests/session \
		--cov asynclm.cml --cov asynclm.session --cov-branch --cov-report term-missing:skip-covered --cov-fail-under 100

test-all: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP) $(BUF)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_generated.py
	$(BUF) lint proto
	$(BUF) breaking proto --against proto/baseline.binpb
	$(BIN)/python tools/check_wheel.py
	$(BIN)/python tools/check_engines.py

# Every deliberately wrong server, against the cases about what it breaks.
mutants: $(STAMP)
	$(BIN)/python -m tests.mutants.matrix --about --until-caught

# The suite on the reference server; RECORD and PROFILE can be set.
PROFILE ?= full
RECORD ?= results.jsonl
conformance: $(STAMP)
	$(BIN)/asynclm-conformance run --profile $(PROFILE) --out $(RECORD) -- \
		$(BIN)/asynclm serve --engine scripted --tools examples/tools_conformance.py --port {port}

generate: $(STAMP) $(BUF)
	$(BIN)/python tools/generate.py

bench: $(STAMP)
	$(BIN)/asynclm bench parser

clean:
	rm -rf $(VENV) node_modules build dist .mypy_cache .ruff_cache .pytest_cache
