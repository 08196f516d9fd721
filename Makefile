.DEFAULT_GOAL := help
export TOKENIZERS_PARALLELISM = false
export GOMP_SPINCOUNT = 10000
python = .venv/bin/python
DATA ?= data
PORT ?= 8000

.PHONY: help setup demo test pytest test-heavy lint loop curves reliability demo-model lock clean

help: ## show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv from the lock file (quick when nothing changed)
	@scripts/setup.sh

demo: setup ## run everything on this machine: pick images in a browser, train, see a better model
	@exec .venv/bin/d3po up --data-dir $(DATA) --port $(PORT)

test: setup ## set up, then lint and all tests side by side (heavier proof has its own targets)
	@$(MAKE) --no-print-directory -j 2 lint pytest

pytest: setup
	@OMP_NUM_THREADS=1 $(python) -m pytest -n 3 --dist loadgroup -m "not heavy"

test-heavy: setup ## the tests that take long: compiled networks, benchmarks in small, more processes and kills
	@OMP_NUM_THREADS=1 $(python) -m pytest -m heavy

lint: setup ## ruff and mypy
	@$(python) -m ruff check .
	@$(python) -m ruff format --check .
	@$(python) -m mypy

loop: setup ## headless proof: 8 rounds at most, then a blind duel; PREFER=jpeg or colourful, OUT=folder
	@$(python) -m benchmarks.loop --prefer $(or $(PREFER),jpeg) --out $(or $(OUT),build/loop-$(or $(PREFER),jpeg))

curves: setup ## D3PO against DDPO, DPOK and RWR, hours, resumable; OBJECTIVE=compressibility, incompressibility or colourfulness
	@OMP_NUM_THREADS=1 $(python) -m benchmarks.curves --objective $(or $(OBJECTIVE),compressibility) --out $(or $(OUT),build/curves)

reliability: setup ## weighted pairs against people who click without looking (an hour, resumable); OUT=folder
	@OMP_NUM_THREADS=1 $(python) -m benchmarks.reliability --out $(or $(OUT),build/reliability)

demo-model: setup ## train the embedded model again (hours on a CPU; resumable)
	@$(python) -m d3po_core.demo_model

lock: ## write requirements.lock from what .venv holds now
	@.venv/bin/python -m pip freeze --all --exclude-editable | sed 's/+[a-z0-9.]*$$//' | grep -v -i '^d3po\|^pip=' > requirements.lock

clean: ## remove .venv and caches; data is kept
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache *.egg-info
