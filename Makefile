# make demo and make test need Python 3.11 or 3.12 and Java 17 or newer; all else is set up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/pytest --numprocesses 2 --no-loadscope-reorder
# Alone, so that no process imports what only the other tests need.
LONG_TESTS = $(sort $(shell grep --recursive --files-with-matches --include 'test_*.py' 'mark\.long' tests))
EXTRAS := spark,airflow,postgres,train,registry,docs,dev

.DEFAULT_GOAL := help
.PHONY: help setup demo retrain-demo airflow stack test test-long test-all check format bench chaos histories docs audit java

help:  ## Show this list.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: setup  ## Set everything up, run a pipeline on real documents, show the counts and some rows.
	@$(BIN)/gliclass-spark demo

retrain-demo: setup  ## Run the retraining loop: tag, feedback, retrain, gate, promote, tag again, roll back.
	@$(BIN)/gliclass-spark retrain-demo

airflow: setup  ## Start Airflow with the pipelines' DAGs on this machine: PORT=8080.
	@$(BIN)/python -m devtools.local_airflow --port $(or $(PORT),8080)

stack: setup  ## Run every service natively: PostgreSQL, S3, MLflow, Spark, Airflow, with one run and one retraining: PORT=8080.
	@$(BIN)/python -m devtools.stack --port $(or $(PORT),8080) $(if $(ONCE),--once)

test: setup check  ## Set everything up, check style and types, run all tests but the long ones.
	@$(PYTEST) -m "not long"

test-long: setup  ## The long tests alone: Airflow from end to end, kills, notebook, documentation, every configuration.
	@$(PYTEST) -m long $(LONG_TESTS)

test-all: setup check  ## Every test.
	@$(PYTEST)

check: setup  ## Style and types only.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --num-workers 2

format: setup  ## Format the code.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup  ## Measure on this machine: the engine against the gliclass library, labels, base-size models, Spark, a run's overhead.
	@$(BIN)/python -m benchmarks.speed.throughput --texts 100
	@$(BIN)/python -m benchmarks.speed.labels
	@$(BIN)/python -m benchmarks.speed.base_size --texts 2 --rounds 2
	@$(BIN)/python -m benchmarks.spark.spark_share
	@$(BIN)/python -m benchmarks.spark.run_overhead

chaos: setup  ## Kill processes of a Spark cluster and of Airflow, change the source meanwhile, and count lost rows: KILLS=30 SEED=0.
	@$(BIN)/pytest tests/cluster/test_chaos.py tests/airflow/test_local.py -s --kills $(or $(KILLS),30) --seed $(or $(SEED),0) --runs 3

histories: setup  ## Search random histories of a source, of settings and of runs for wrong tables: HISTORIES=100 SEED=0.
	@$(BIN)/pytest tests/spark/runs/test_histories.py -s --histories $(or $(HISTORIES),100) --seed $(or $(SEED),0)

docs: setup  ## Build the documentation into build/site; SERVE=1 serves it and rebuilds on changes.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs $(if $(SERVE),serve,build) --strict --quiet

# --strict: a package that can't be looked up is a failure, not a package without advisories.
audit: setup  ## Look up security advisories for every pinned Python package, on PyPI.
	@$(BIN)/pip-audit --strict --disable-pip --no-deps --progress-spinner off \
		$(foreach pins,constraints.txt docker/mlflow/requirements.txt docker/store/requirements.txt tests/spark/pages/dbt-requirements.txt,--requirement $(pins))

setup: java $(READY)

# Only the standard library: it runs before anything is installed.
java:
	@$(PYTHON) -c 'import sys; sys.version_info[:2] in ((3, 11), (3, 12)) or sys.exit("error: this is Python %d.%d; install Python 3.11 or 3.12, or name one: make PYTHON=python3.11" % sys.version_info[:2])'
	@$(PYTHON) -m gliclass_spark.spark.java

# The environment is rebuilt when its inputs change. PySpark comes as source alone, half a gigabyte: asked for the
# packages that it needs, uv downloads and builds it anew wherever the index names no time for which an answer is
# valid; installed first and by itself, it is built once and then taken from uv's cache.
# The packages are compiled here, once: with PYTHONDONTWRITEBYTECODE, which many images set, each process would compile
# torch, MLflow or Airflow for itself, for seconds.
UV_INSTALL = $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --build-constraint constraints.txt
$(READY): pyproject.toml constraints.txt
	@echo "setting up $(VENV) (the first time: one to four minutes, 7 GB)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@$(UV_INSTALL) --no-deps pyspark pyspark-client
	@$(UV_INSTALL) --editable '.[$(EXTRAS)]'
	@touch $@
