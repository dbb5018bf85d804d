# Everything a person or a machine runs here. Each target prepares .venv by itself.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Where Python may not keep what it compiled, each process a test starts compiles five hundred files: 0.8 s.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help setup demo test fuzz faults bench soak check format docs sbom clean

BIN := .venv/bin
RUN := .venv/.ready-run
DEV := .venv/.ready-dev
CODE := gateway tests $(wildcard bench)
PYTEST_ARGS ?=
BENCH_ARGS ?=
DEMO_ARGS ?=
FAULTS_ARGS ?=
SOAK_ARGS ?=
FUZZ_EXAMPLES ?= 1000

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1 \t\2/p' Makefile | expand -t 16

setup: $(DEV) ## Make .venv with everything that development needs

demo: $(RUN) ## Watch referrals cross between five agencies
	@$(BIN)/gateway demo $(DEMO_ARGS)

test: $(DEV) ## Run the tests, RabbitMQ's and PostgreSQL's among them
	@tools/ensure-rabbitmq
	@tools/ensure-postgresql
	@tools/ensure-softhsm
	@tools/ensure-node-packages
	@$(BIN)/python -m pytest -q -n 3 --dist loadgroup $(PYTEST_ARGS)

bench: $(DEV) ## Measure the whole road beside the raw broker
	@tools/ensure-rabbitmq
	@tools/ensure-postgresql
	@$(BIN)/python -m bench $(BENCH_ARGS)

soak: $(DEV) ## Half an hour at 70 % of the load: does anything grow? Writes docs/soak.svg
	@tools/ensure-rabbitmq
	@$(BIN)/python -m bench.soak $(SOAK_ARGS)

fuzz: $(DEV) ## Give every reader of foreign bytes thousands of hostile inputs; draw new cases for every rule
	@tools/ensure-postgresql
	@FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest -q -n 2 --timeout=0 tests/fuzz $(PYTEST_ARGS)
	@FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest -q -n 2 --timeout=0 -m hypothesis --ignore tests/fuzz tests

faults: $(DEV) ## Kill, pause, cut and restart everything for some minutes; nothing may be lost
	@tools/ensure-rabbitmq
	@tools/ensure-postgresql
	@$(BIN)/python -m tests.faults $(FAULTS_ARGS)

check: $(DEV) ## Lint, format, types, import rules
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/ruff format --quiet --check $(CODE) || { echo "run: make format" >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary $(CODE)
	@$(BIN)/lint-imports --no-logo >.venv/lint-imports.log || { cat .venv/lint-imports.log >&2; exit 1; }
	@echo "check: all good"

format: $(DEV) ## Sort imports and lay out the code
	@$(BIN)/ruff check --quiet --select I --fix $(CODE)
	@$(BIN)/ruff format --quiet $(CODE)

docs: $(DEV) ## Write the generated parts of docs/
	@$(BIN)/python tools/document
	@$(BIN)/python -m gateway.schemas.document > docs/messages.md
	@$(BIN)/gateway config describe > docs/config.md

sbom: ## Write .build/sbom.json: what the product is made of, from the lock file (CycloneDX)
	@mkdir -p .build
	@tools/ensure-venv sbom
	@echo "sbom: .build/sbom.json"

clean: ## Remove .venv and everything the tools leave behind
	@rm -rf .venv .build dist tests/interop/node/node_modules .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find gateway tests $(wildcard bench) -name __pycache__ -prune -exec rm -rf {} +

$(DEV): pyproject.toml uv.lock tools/ensure-venv
	@tools/ensure-venv dev
	@touch $(DEV) $(RUN)

$(RUN): pyproject.toml uv.lock tools/ensure-venv
	@tools/ensure-venv run
	@touch $(RUN)
