# Two commands matter: `make demo` and `make test`. Everything they need they install themselves.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
export OMP_NUM_THREADS ?= 1
ROOMS := $(patsubst %/pyproject.toml,%,$(wildcard */pyproject.toml))
PROJECT := $(wildcard $(addsuffix /src,$(ROOMS)))
CHECKED := $(PROJECT) $(wildcard $(addsuffix /tests,$(ROOMS)) charts/tests tests examples bench)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: .venv ## a real cluster, the product, three YAML objects, 200 pictures scored, ResNet-50
	@$(PY) -m examples.demo

.PHONY: test
test: .venv ## every test: checks, unit tests, a real API server, the real cluster
	@$(PY) scripts/run_tests.py

.PHONY: test-full
test-full: .venv ## the same tests with the full counts
	@ACCEL_TEST_FULL=1 $(PY) scripts/run_tests.py

.PHONY: unit
unit: .venv ## unit tests of all packages
	@$(PY) -m pytest -q -m "not tensorflow and not network" -n 2 --dist loadfile

.PHONY: check
check: .venv ## format, lint, types, layers, generated files
	@$(PY) scripts/check.py

.PHONY: format
format: .venv ## format the code and mend what ruff can mend
	@.venv/bin/ruff check --quiet --fix $(CHECKED) scripts; .venv/bin/ruff format --quiet $(CHECKED) scripts

.PHONY: generate
generate: .venv ## CRDs, gRPC stubs, chart copies, docs tables
	@$(PY) scripts/generate.py

.PHONY: lock
lock: ## pin and hash every requirement again (the only step that resolves versions)
	@scripts/lock

.PHONY: cluster-up cluster-down cluster-status kubeconfig
cluster-up: .venv ## the throw-away cluster: three nodes, two with FPGAs
	@$(PY) -m accel_cluster up
cluster-down: .venv ## and away without a trace
	@$(PY) -m accel_cluster down
cluster-status: .venv
	@$(PY) -m accel_cluster status
kubeconfig: .venv ## prints the kubeconfig's path (make -s kubeconfig)
	@$(PY) -m accel_cluster kubeconfig

.PHONY: .venv
.venv:
	@scripts/bootstrap
