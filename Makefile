# Everything a fresh machine needs: Python 3.11 or newer with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := .demo

.PHONY: install demo test soak smoke check clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt --editable ".[test,dev]"
	touch $@

# The quickstart manifest on the embedded model. Exit status 3 is right: one row of the manifest is broken on purpose.
demo: install
	rm -rf $(DEMO)/output
	$(BIN)/dimoo-batch run examples/quickstart.parquet --spec examples/quickstart.yaml \
		--output $(DEMO)/output --workers 2 || test $$? -eq 3
	$(BIN)/dimoo-batch report $(DEMO)/output

# Several processes share few cores: threads that spin while they wait would take them from each other.
test: export OMP_WAIT_POLICY = PASSIVE
test: install
	$(BIN)/python -m pytest -n 3 --dist worksteal -m "not soak"

# The tests that take long: clusters of several machines, processes that hang, training, faults by the thousand.
soak: export OMP_WAIT_POLICY = PASSIVE
soak: install
	$(BIN)/python -m pytest -n 2 --dist worksteal -m soak

# Three minutes of training the embedded model from random weights, which must lower its loss.
smoke: export OMP_WAIT_POLICY = PASSIVE
smoke: install
	$(BIN)/python -m shapes.smoke_training

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info
