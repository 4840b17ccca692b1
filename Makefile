# make demo    set up .venv and run the demo
# make test    set up .venv and run the whole gate: lint, format, types, tests; no GPU is used
# make test-gpu    the tests that need one
# make docs    the documentation as a site, docs/_build/html/index.html
# make test-wheel    install the wheel with all it needs into an empty environment, and train with it
#
# PYTHON names the interpreter (3.10 or newer) that .venv is made with: make test PYTHON=python3.12
PYTHON ?= python3
# The gate's torch; any that pyproject.toml admits will do: make test TORCH=torch==2.14.1
TORCH ?= torch==2.13.0
BIN := .venv/bin
# Much is compared bit by bit, as one thread of a CPU computes it.
ON_CPU := CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1

.PHONY: demo test test-gpu test-openmmlab test-wheel docs clean

demo: .venv/.installed-demo
	$(BIN)/python tools/demo.py

test: .venv/.installed-all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(ON_CPU) $(BIN)/python -m pytest -n 2 --dist worksteal

test-gpu: .venv/.installed-all
	CUDA_VISIBLE_DEVICES=0 $(BIN)/python -m pytest tests/runner/test_training.py -k gpu

# Run in the environment's own folder, from which the clone is not seen.
test-wheel:
	rm -rf .venv-wheel build
	$(call venv,.venv-wheel)
	.venv-wheel/bin/python -m pip wheel -q --no-deps -w .venv-wheel .
	.venv-wheel/bin/python -m pip install -q '$(TORCH)' "$$(echo .venv-wheel/mmkd-*.whl)[demo]"
	@rm .venv-wheel/.incomplete
	cd .venv-wheel && bin/mmkd configs && $(ON_CPU) bin/mmkd demo --images 32 8 \
	  --cfg-options train_cfg.max_epochs=1

# The same tests with OpenMMLab's original packages; see docs/install.md.
test-openmmlab: .venv-openmmlab/.installed
	$(ON_CPU) .venv-openmmlab/bin/python -m pytest -n 2 --dist worksteal

docs: .venv/.installed-all
	rm -rf docs/api docs/_build
	$(BIN)/python -m sphinx -q -W --keep-going docs docs/_build/html

clean:
	rm -rf .venv .venv-openmmlab .venv-wheel docs/api docs/_build

# $(call venv,FOLDER): a virtual environment, empty if the last attempt to fill it was interrupted,
# since pip takes a half-written package for an installed one.
define venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo 'mmkd needs Python 3.10 or newer; received' \
	    "$$($(PYTHON) --version 2>&1). Name one: make PYTHON=python3.12" >&2; exit 1; }
	@if [ -e $(1)/.incomplete ] || ! [ -x $(1)/bin/python ]; then \
	  $(PYTHON) -m venv --clear $(1); fi
	@touch $(1)/.incomplete
endef

.venv/.installed-%: setup.py pyproject.toml
	$(call venv,.venv)
	$(BIN)/python -m pip install -q '$(TORCH)' -e '.[$*]'
	@rm .venv/.incomplete
	@touch $@

.venv-openmmlab/.installed: setup.py pyproject.toml requirements-openmmlab.txt
	$(call venv,.venv-openmmlab)
	.venv-openmmlab/bin/python -m pip install -q '$(TORCH)' -r requirements-openmmlab.txt
	.venv-openmmlab/bin/python -m pip install -q --no-deps -e .
	@rm .venv-openmmlab/.incomplete
	@touch $@
