# One command for every day: make check. It lints, checks types and contracts, and runs the tests that a change touches.
PYTHON ?= python
PYTEST = $(PYTHON) -m pytest -n auto

.PHONY: check lint types contracts touched test slow format

check: lint types contracts touched

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

contracts:
	lint-imports

touched:
	@files="$$($(PYTHON) tests/touched.py)" && if [ -n "$$files" ]; then $(PYTEST) -q -m "not slow" $$files; fi

test:
	$(PYTEST) -m "not slow"

slow:
	$(PYTHON) -m pytest -m slow

format:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .
