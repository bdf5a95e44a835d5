# Everything a developer types.  It needs CPython 3.11 or newer with venv and pip, and the network the first time.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
QUICK  := not process and not interop and not slow and not simulation
ARGS   ?=
SEEDS  ?= 100000
JOBS   ?= $(shell nproc)

.PHONY: help test check lint demo sim torture bench wheel clean distclean

help:
	@echo "make demo       three servers with a few files, and what happens when the leading one is killed"
	@echo "make test       every check and every test"
	@echo "make check      the quick ones"
	@echo "make sim        SEEDS=100000 simulated Raft clusters in trouble, on all processors"
	@echo "make torture    the tests on processes for long: masters killed, frozen and replaced by the dozen"
	@echo "make bench      how fast it is here"
	@echo "make wheel      dist/weedtw-*.whl"
	@echo "make clean      remove what was built; make distclean: the virtual environment too"

# The stamps say what the virtual environment holds, and since when: a change of the requirements renews it.
$(VENV)/ready-to-run: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "weedtw needs Python 3.11 or newer; $(PYTHON) is older. Say make PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[images]'
	@$(BIN)/python -c 'from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))'
	@touch $@

$(VENV)/ready-to-test: $(VENV)/ready-to-run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

lint: $(VENV)/ready-to-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# ruff, mypy, pytest, and at last trial: the synchronous tests are found by both runners.  trial is given their
# files by name: it finds tests in a folder only when that is a package, and pytest's import mode wants that it is
# none.  It also changes into a folder of its own, so the names are absolute.
test: lint
	$(BIN)/pytest -n $(JOBS) --dist loadfile
	mkdir -p build
	grep -rl --include='test_*.py' SynchronousTestCase $(CURDIR)/tests | sort | \
		xargs -P $(JOBS) -n 24 sh -c '$(BIN)/trial --temp-directory=build/trial-$$$$ "$$@"' trial

check: lint
	$(BIN)/pytest -q -n $(JOBS) --dist loadfile -m '$(QUICK)'

demo: $(VENV)/ready-to-run
	$(BIN)/python -m weedtw.cli.demo $(ARGS)

sim: $(VENV)/ready-to-run
	$(BIN)/python -m tests.sim --seeds $(SEEDS) --jobs $(JOBS)

# WEEDTW_SEED=… repeats a run's choices; each test keeps its history beside its logs.
torture: $(VENV)/ready-to-test
	WEEDTW_TORTURE=1 $(BIN)/pytest -m process --basetemp=build/torture tests/cluster $(ARGS)

bench: $(VENV)/ready-to-test
	@for bench in $(wildcard bench/*.py); do echo "== $$bench"; $(BIN)/python $$bench $(ARGS) || exit 1; done

wheel: $(VENV)/ready-to-run
	rm -rf build/lib build/bdist.*
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@ls dist/*.whl

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis _trial_temp* demo-data
	find weedtw tests bench twisted -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f twisted/plugins/dropin.cache

distclean: clean
	rm -rf $(VENV)
