# The two commands of the README: `make demo` and `make test`. Nothing is needed before them but Python >= 3.11.

PYTHON ?= python3
VENV := .venv
BENCH := $(VENV)/bin/bench
DEMO := runs/demo

.PHONY: help install demo check test test-slow test-all bench gpu simulations across clean

help:
	@echo "make install      set up .venv"
	@echo "make demo         the whole story on a synthetic PTB-XL"
	@echo "make check        lint, types, the rules of the house"
	@echo "make test         make check, and all tests that are not marked slow"
	@echo "make test-slow    the tests that are marked slow, and the published boards recomputed"
	@echo "make test-all     make test, then make test-slow"
	@echo "make bench        speed against stated references"
	@echo "make gpu          the same on a GPU, in parts: PART=3"
	@echo "make simulations  rates of coverage and false claims, into leaderboards/"
	@echo "make across       the same for questions over all tasks"

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt setuptools
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e ".[dev]"
	touch $@

# The whole story on a synthetic PTB-XL: pre-train on one half of the patients, adapt to the other half, compare.
demo: install
	rm -rf $(DEMO)
	$(BENCH) data demo $(DEMO)/ptb-xl --records 4000 --rate 100 --halves
	$(BENCH) run --data $(DEMO)/ptb-xl/first-half --task nondiag --arch net1d_mini --method "scratch(epochs=12, lr=3e-3)" --stage val --runs $(DEMO)
	for method in ft lpft-sd; do \
	    $(BENCH) run --data $(DEMO)/ptb-xl/second-half --task superdiag --arch net1d_mini --method $$method --fraction 0.1 \
	        --init $(DEMO)/nondiag/net1d_mini-scratch-*-val --runs $(DEMO) || exit; \
	done
	$(BENCH) leaderboard --data $(DEMO)/ptb-xl/second-half --runs $(DEMO) --out $(DEMO)/leaderboards
	@cat $(DEMO)/leaderboards/synthetic-*/superdiag.md

# Lint, types, and the rules of the house: a minute.
CHECKED := tests/test_architecture.py tests/test_readme.py
check: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n auto $(CHECKED)

# `make check` and all other tests that are not marked slow.
test: check
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --dist loadfile -m "not slow" $(CHECKED:%=--ignore=%)

# Kills, several processes, SLURM, the recomputation of published results; then the published boards.
test-slow: install
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m slow
	$(BENCH) leaderboard --check

test-all: test test-slow

# Speed against stated references; prints a table and writes it to build/benchmarks-KIND.md.
bench: install
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest tests/benchmarks -o python_files="bench_*.py"

# Eight minutes on a GPU, small on a CPU: PART=3 or PART=2,4 runs some; numbers are in build/gpu.md, or in $OUT, at once.
# Nothing is installed: PYTHON is the one that has torch (2.6 or newer). It also needs numpy, scipy, pandas,
# scikit-learn, matplotlib, rich, typer, huggingface_hub, pytest, and wfdb, which machines with a card often
# lack. wfdb is pure Python; without a network carry its wheel along:
#   python3 -m pip install --no-index --no-deps --target build/wheels wfdb-*.whl
PART ?=
gpu:
	PYTHONPATH="build/wheels:$$PYTHONPATH" $(PYTHON) tests/benchmarks/gpu --part "$(PART)"

# How often intervals cover and comparisons claim what is not there, on the labels of PTB-XL in DATA: half an hour.
DATA ?= data/ptb-xl
simulations: install
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m bench.boards.simulations $(DATA) leaderboards

across: install
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m bench.boards.across_simulations leaderboards

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info
