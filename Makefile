# Everything from nothing: `make demo` and `make test` need python >= 3.11, make and a package registry.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# uv compiles nothing. An import does: each later start takes 2 s less, also where the environment forbids compiled files.
COMPILED := import vidattr.cli, vidattr.cluster.task, vidattr.evaluate.report, hydra.compose, torchvision

.PHONY: help benchmark benchmark-networks setup demo test check format bench docs fuzz data lock clean kill mutants tables
.DEFAULT_GOAL := help

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: $(VENV)/.ready ## the environment in .venv, from pinned requirements

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11; say make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -c '$(COMPILED)'
	@touch $@

demo: setup ## explain the bundled clips with three methods, judge the maps, show the table
	$(BIN)/vidattr run method=gradient,grad_cam,integrated_gradients
	$(BIN)/vidattr evaluate method=gradient,grad_cam,integrated_gradients metric=s_pt,t_pt
	$(BIN)/vidattr evaluate method=gradient,grad_cam,integrated_gradients metric=deletion_insertion metric.steps=14
	@echo "maps and pictures: visual_res/<method>/tiny_r2plus1d/, sheets that compare the methods: visual_res/comparison/"

# With compiled files each of the many processes imports torch in 4 s instead of 11, where the environment forbids them.
test: setup ## the tests, one process a core
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

check: setup ## format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test

format: setup ## put the code into the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## speed, as ratios measured side by side in one run, compared with the last ones in docs/bench.json
	$(BIN)/python scripts/bench.py --keep

docs: setup ## add new choices to README.md and docs/NETWORKS.md, then build the site in site/; a warning is an error
	$(BIN)/python scripts/make_lists.py
	$(BIN)/python scripts/make_networks.py --methods
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

tables: setup ## compute the published tables with bundled stand-ins, and write docs/TABLES.md (ten minutes)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/make_tables.py

benchmark: setup ## rank all methods where the truth is known, and write docs/BENCHMARK.md (an hour)
	OMP_NUM_THREADS=1 $(BIN)/vidattr benchmark --shard 1/2 & OMP_NUM_THREADS=1 $(BIN)/vidattr benchmark --shard 2/2; wait
	OMP_NUM_THREADS=1 $(BIN)/vidattr benchmark --page docs/BENCHMARK.md

benchmark-networks: setup ## train the networks of the benchmark from nothing (an hour)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/make_benchmark_networks.py

fuzz: setup ## hostile files and command lines, ten times as many as the test has (half an hour)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/fuzz.py --times 10 --keep fuzz-findings

mutants: setup ## change 200 lines of the numeric core, one at a time, and print the changes that no test notices (an hour)
	$(BIN)/python scripts/mutants.py --count 200

kill: setup ## kill the commands 100 times at random moments and compare what they leave
	OMP_NUM_THREADS=1 $(BIN)/python scripts/kill.py

data: setup ## write test_data/ anew
	$(BIN)/python scripts/make_test_data.py

lock: setup ## pin requirements.lock anew
	$(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --python-version 3.11 \
		--extra dev -o requirements.lock pyproject.toml

clean: ## remove what can be made again, but not visual_res
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
