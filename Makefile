# `make` alone lists what there is. All of it works without activating anything.
PYTHON ?= python3
API_PORT ?= 8001
USER_NAME ?=
export API_PORT USER_NAME

DEV := $(PYTHON) -m scripts.dev
VENV_PYTHON := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help run register key env infra-env aws-env checkov-env test test-faults test-s3 infra infra-apply-test routing container-test bench lint types format lock secrets sure clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: ## start MLflow and the proxy in front of it (API_PORT=8001) until Ctrl-C
	@$(DEV) run

register: ## register a model through the running proxy, end to end
	@$(DEV) register

key: ## make a key: make key USER_NAME=alice
	@$(DEV) key --user "$$USER_NAME"

env: ## make the environments .venv and .venv-mlflow, with all the tools
	@$(DEV) env dev

# Two processes, since most tests wait for something. Those of infra/ run no line of app/ that others do not, so they are
# spared the measuring. The tests' own processes are measured without greenlets, of which they have none (the proxies are
# measured with them: tests/support/process.py): coverage's table of them, one for each thread that ever was, has sent a
# run round in circles. The catalogue of faults runs by itself, since its bounds are about time.
test: env ## run all tests, and measure the branch coverage of app/ (at least 95 %)
	@$(VENV_PYTHON) -m coverage erase
	@$(VENV_PYTHON) -m coverage run --concurrency=thread -m pytest -n 2 --dist loadfile --ignore tests/infra
	@$(VENV_PYTHON) -m pytest -n 2 --dist loadfile tests/infra
	@$(VENV_PYTHON) -m pytest -m faults tests/faults
	@$(VENV_PYTHON) -m coverage combine -q
	@$(VENV_PYTHON) -m coverage report

test-faults: env ## run the catalogue of faults (about 3 minutes)
	@$(VENV_PYTHON) -m pytest -m faults tests/faults

bench: env ## compare with nginx, HAProxy and a hello-world; about 9 minutes, wants the machine to itself
	@$(VENV_PYTHON) -m benchmarks

test-s3: env ## run the tests of an MLflow that keeps its artifacts in S3 (moto plays it)
	@test -x .venv-s3/bin/moto_server || $(PYTHON) -m venv .venv-s3
	@.venv-s3/bin/python -m pip install -qq --disable-pip-version-check -r requirements-s3.txt
	@$(VENV_PYTHON) -m pytest -m s3

infra-env: env aws-env checkov-env ## make the environments for AWS's tools and for checkov (with -j3 at once)

aws-env:
	@test -x .venv-infra/bin/moto_server || $(PYTHON) -m venv .venv-infra
	@.venv-infra/bin/python -m pip install -qq --disable-pip-version-check -r requirements-infra.txt

checkov-env:
	@test -x .venv-checkov/bin/checkov || $(PYTHON) -m venv .venv-checkov
	@.venv-checkov/bin/python -m pip install -qq --disable-pip-version-check -r requirements-checkov.txt

infra: infra-env ## check all of infrastructure/ and scripts/ for AWS, without an account
	@$(VENV_PYTHON) -m scripts.alb.checks
	@$(VENV_PYTHON) -m tests.support.terraform
	@$(VENV_PYTHON) -m pytest -n 2 --dist loadfile tests/infra

infra-apply-test: infra-env ## apply all of infrastructure/ to moto, and read the rules back (about 4 minutes)
	@nice $(VENV_PYTHON) -m pytest -m moto tests/infra

routing: env ## write docs/routing.md anew from the load balancer's rules
	@$(VENV_PYTHON) -m scripts.alb.page --write

container-test: env ## build the image for real, and run it as AWS would; root on Debian 12, 4 minutes
	@sh scripts/container/tools.sh
	@nice $(VENV_PYTHON) -m pytest -m container tests/container

lint: env ## check style and form
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .

types: env ## check the types, of tests and scripts too
	@$(VENV_PYTHON) -m mypy

format: env ## put the code into form
	@$(VENV_PYTHON) -m ruff check --fix .
	@$(VENV_PYTHON) -m ruff format .

lock: env ## pin the newest versions that requirements*.in allow
	@$(VENV_PYTHON) -m piptools compile -q --strip-extras --upgrade --no-emit-find-links --no-emit-index-url -o requirements.txt requirements.in
	@$(VENV_PYTHON) -m piptools compile -q --strip-extras --upgrade --no-emit-find-links --no-emit-index-url -o requirements-dev.txt requirements-dev.in
	@$(VENV_PYTHON) -m piptools compile -q --strip-extras --upgrade --no-emit-find-links --no-emit-index-url -o requirements-infra.txt requirements-infra.in

secrets: ## search the repository for keys and passwords
	@$(PYTHON) scripts/secret_search.py

sure: lint types secrets test ## all of lint, types, secrets, test

clean: ## remove the environments and caches; .local, with your experiments, stays
	rm -rf .venv .venv-mlflow .venv-bench .venv-s3 .venv-infra .venv-checkov .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
