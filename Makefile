# Every check by one name; `make check` is what has to pass before anything lands.
BIN ?= .venv/bin

.PHONY: setup check format lint types test search slow mutants journals bench remote docs nights page pictures airflow airflow-celery bench-airflow package clean

setup: .venv/ready

PYTHON ?= python3

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

check: lint types test

format:
	$(BIN)/ruff format batch tests
	$(BIN)/ruff check --fix batch tests

lint:
	$(BIN)/ruff format --check batch tests
	$(BIN)/ruff check batch tests
	$(BIN)/lint-imports

# For the system at hand and for Windows: what exists on one of them only is found.
types:
	$(BIN)/mypy --platform linux
	$(BIN)/mypy --platform win32

test:
	$(BIN)/pytest -n auto --cov --cov-report=term

# The laws held against ten times the examples, new ones each time; what it finds becomes an @example.
search:
	$(BIN)/pytest -m "hypothesis and not slow" --hypothesis-profile=search

# Real sockets, real time, killed processes: some minutes.
slow:
	$(BIN)/pytest -m slow -s

# Object stores, with `moto` in the part of S3.
remote:
	$(BIN)/pip install --quiet -c constraints.txt -e '.[remote,remote-tests]'
	$(BIN)/pytest -m "slow or not slow" -s tests/storage/test_object_store.py

# What the tests of the pure middle would not notice, an hour or so. `mutmut run 'telemetron_batch.planning.plan.*'` goes on with a part.
mutants:
	$(BIN)/pip install --quiet -c constraints.txt -e '.[mutants]'
	rm -rf mutants
	$(BIN)/mutmut run
	$(BIN)/python -m tests.support.mutants

# Journals of the current schema that the tests read again, where a state has none yet; see the module's docstring.
journals:
	$(BIN)/python -m tests.support.make_journal_fixtures

# Measurements; prints figures and ratios, asserts nothing. `make bench NAMES=bench_instead` runs only that.
# What a user would write instead needs libraries that are kept out of the environment of the tests.
bench: .venv-instead/ready
	$(BIN)/pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/python -m tests.bench $(NAMES)

.venv-instead/ready: pyproject.toml constraints.txt constraints-instead.txt
	python3 -m venv .venv-instead
	.venv-instead/bin/pip install --quiet -c constraints.txt -c constraints-instead.txt -e '.[instead]'
	touch $@

# The parts of docs/ that are made from the code; the tests compare them.
docs:
	$(BIN)/python -m tests.support.docs

# The table of twelve nights in docs/night-job.md, from twelve nights that it plays: a minute, and it must be root.
nights:
	$(BIN)/python -m tests.support.nights

# The template of report.html, compiled: after every change of it, and of the version of Jinja in constraints.txt.
page:
	$(BIN)/python -m tests.support.compiled_page

# The README's pictures, from a run of the sample data; needs Chromium.
pictures:
	$(BIN)/python -m tests.support.pictures

# Airflow in an environment of its own, the provider's tests in it, and a real scheduler: some minutes.
# AIRFLOW=3.1 takes the oldest version that is supported.
AIRFLOW ?= 3.3

airflow: .venv-airflow-$(AIRFLOW)/ready
	.venv-airflow-$(AIRFLOW)/bin/pytest -m 'airflow and not celery' tests/under_airflow

# Shards on two Celery workers, one of which is killed: some minutes; needs redis-server and PostgreSQL.
airflow-celery: .venv-airflow-$(AIRFLOW)/celery
	.venv-airflow-$(AIRFLOW)/bin/pytest -m celery -s tests/under_airflow

.venv-airflow-$(AIRFLOW)/celery: .venv-airflow-$(AIRFLOW)/ready
	.venv-airflow-$(AIRFLOW)/bin/pip install --quiet -c constraints-airflow-$(AIRFLOW).txt $(AIRFLOW_CELERY)
	touch $@

.venv-airflow-$(AIRFLOW)/ready: pyproject.toml constraints-airflow-$(AIRFLOW).txt
	python3 -m venv .venv-airflow-$(AIRFLOW)
	.venv-airflow-$(AIRFLOW)/bin/pip install --quiet -c constraints-airflow-$(AIRFLOW).txt -e '.[airflow]' $(AIRFLOW_TESTS)
	touch $@

# What reading a DAG file costs with our provider, beyond Airflow's own libraries.
bench-airflow: .venv-airflow-$(AIRFLOW)/ready
	.venv-airflow-$(AIRFLOW)/bin/python -m tests.bench bench_airflow_import

AIRFLOW_CELERY = apache-airflow-providers-celery asyncpg psycopg2-binary redis
AIRFLOW_TESTS = pytest hypothesis respx openpyxl apache-airflow-providers-openlineage apache-airflow-providers-sqlite

# The source distribution and the wheel, in dist/, checked as an index would check them.
package:
	$(BIN)/pip install --quiet -c constraints.txt -e '.[release]'
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

clean:
	rm -rf .venv .venv-airflow-* .venv-instead build mutants dist batch/*.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis
