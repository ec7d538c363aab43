# curator: `make demo` runs the flagship campaign, `make test` the tests. Everything is installed into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export OMP_NUM_THREADS ?= 1

.PHONY: demo test bench lint mini-halides clean

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'curator needs Python 3.11 or newer; name one with: make PYTHON=python3.11'; exit 2; }
	@echo 'Installing curator into $(VENV); the first time takes a few minutes.'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(PIP) --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	@test -e demo-lif/campaign.yaml || $(BIN)/curator init lif demo-lif
	@$(BIN)/curator run demo-lif || test $$? -eq 3
	@$(BIN)/curator status demo-lif

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup

bench: $(VENV)/.installed-dev
	@for file in tests/benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

mini-halides: $(VENV)/.installed
	$(BIN)/python -m curator.distil.mini_halides all

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
