# Every command of the project. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/sh
ARGS ?=
JOBS ?= 2
SBOM ?= data/sbom.json
export PYTHON TORCH_ARGS
export OMP_NUM_THREADS ?= 1

.PHONY: help install run demo demo-loop test chaos chaos-full load fuzz fuzz-full lint types arrows check tiny-model audit sbom bench migrate compose-test lock clean

help:  ## list every command
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

install:  ## make .venv with everything in it (PYTHON=… and TORCH_ARGS=… as you like)
	@.ci/install

run: install  ## start the whole system on this machine and make a first picture; Ctrl-C stops it
	@exec .venv/bin/lorikeet up $(ARGS)

demo: install  ## start, make a picture, fine-tune a LoRA, leave data/demo.png, stop
	@exec .venv/bin/lorikeet demo $(ARGS)

demo-loop: install  ## start, let users choose, watch the model learn their taste, leave data/demo-loop.png, stop
	@exec .venv/bin/lorikeet demo-loop $(ARGS)

test: install  ## run every test, on JOBS=2 cores (ARGS="-k word" for some)
	@.venv/bin/pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

chaos: install  ## break the real system on purpose for some minutes: nothing may be lost, doubled or stale
	@.venv/bin/python -m chaos.run $(ARGS)

chaos-full: install  ## every fault as often as docs/reliability.md says, and what the suite notices; hours
	@.venv/bin/python -m chaos.run --without fence --only zombie --times 4 --seconds 60 --jobs 120
	@.venv/bin/python -m chaos.run --without sweep --only 'worker: kill' --seconds 30 --jobs 60
	@.venv/bin/python -m chaos.run --without ring --only 'FLUSHALL|lost' --seconds 30 --jobs 200
	@.venv/bin/python -m chaos.training --out docs/reliability/training.md
	@.venv/bin/python -m chaos.feedback --out docs/reliability/feedback.md
	@.venv/bin/python -m chaos.upgrade --out docs/reliability/upgrade
	@.venv/bin/python -m chaos.run --full --out docs/reliability/full

load: install  ## 100 users, 10 submits each, by locust on a system of its own: QPS, latencies, errors
	@.venv/bin/python -m bench.load $(ARGS)

fuzz: install  ## some thousand hostile requests at every route: no 5xx, no stack trace
	@.venv/bin/python -m chaos.fuzz $(ARGS)

fuzz-full: install  ## a million of them; hours
	@.venv/bin/python -m chaos.fuzz --requests 1000000 --round-seconds 300 --out docs/reliability/fuzz.md

lint: install  ## style and likely mistakes
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .

types: install  ## mypy, strict
	@.venv/bin/mypy

arrows: install  ## who may import whom
	@.venv/bin/lint-imports

check: lint types arrows test  ## lint, types, arrows and tests

tiny-model: install  ## train the tiny base model anew (hours on two cores)
	@.venv/bin/python -m tiny.train $(ARGS)

audit: install  ## known weaknesses of what is installed and locked (needs PyPI's own index)
	@.ci/audit $(ARGS)

sbom: install  ## what the project is made of, torch too, in CycloneDX: SBOM=data/sbom.json
	@.ci/sbom $(SBOM)

bench: install  ## measure what the project claims, one command per claim; fails at the end where a target is missed
	@trap 'exit 130' INT TERM; bad=; for file in bench/[a-z]*.py; do name=$$(basename $$file .py); \
		echo "== $$name"; .venv/bin/python -m bench.$$name || bad="$$bad $$name"; done; \
		.venv/bin/python -m bench.page; test -z "$$bad" || { echo "missed a target, or failed:$$bad"; exit 1; }

migrate: install  ## bring the database of DATABASE_URL (the environment's, or .env's) to the newest schema
	@.venv/bin/python -m alembic upgrade head

compose-test: install  ## build and run the containers for real (needs root, Debian and a Docker engine)
	@.venv/bin/python -m tests.compose.run $(ARGS)

lock: install  ## lock the newest versions that pyproject.toml allows
	@.ci/lock

clean:  ## remove .venv and every cache; data/ stays
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
