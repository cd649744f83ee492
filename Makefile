# Every command of the project; `make help` lists them.
VENV   := .venv
PYTHON := python3
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
NODE   := $(VENV)/node_modules/.installed
OHIF   := $(VENV)/ohif/.unpacked
ROUNDS := 200
BENCH  := .bench

.DEFAULT_GOAL := help
.PHONY: help demo sandbox test collected check format install samples docs site notices faults grid deid-grid large advisories fuzz fuzz-http fuzz-dimse bench bench-scale clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[test]'
	# As pip would, but on every processor; a module that is not of this Python does no harm while nobody imports it.
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

# Each in one command, since a line of its own would be run although npm is not here. Where npm reaches no registry it says
# why, and the tests that need its packages are left out; in CI that is an error.
NPM_FETCH := --loglevel error --fetch-retries 1 --fetch-retry-mintimeout 1000 --fetch-retry-maxtimeout 5000 --fetch-timeout 60000
$(NODE): tests/interop/javascript/package.json | $(STAMP)
	@without="left out: tests/interop/test_javascript_client.py, test_identity_providers.py, tests/gateway/console/test_accessible.py"; \
	if ! command -v npm >/dev/null; then \
		echo "npm is not here; $$without"; \
	elif cp $< $(VENV)/package.json && \
		npm install $(NPM_FETCH) --no-audit --no-fund --no-package-lock --ignore-scripts --prefix $(VENV) >/dev/null; then \
		touch $@; \
	else \
		echo "npm could not install what tests/interop/javascript/package.json names; $$without" >&2; test -z "$$CI"; \
	fi

$(OHIF): tests/interop/ohif-version | $(STAMP)
	@without="left out: tests/interop/test_ohif.py, test_viewer.py"; \
	if ! command -v npm >/dev/null; then \
		echo "npm is not here; $$without"; \
	elif mkdir -p $(@D) && cd $(@D) && npm pack $(NPM_FETCH) "@ohif/app@$$(cat $(CURDIR)/$<)" >/dev/null && tar xzf ohif-app-*.tgz; then \
		touch $(@F); \
	else \
		echo "npm could not get OHIF; $$without" >&2; test -z "$$CI"; \
	fi

install: $(STAMP) ## make the local environment with everything needed

demo: $(STAMP) ## start the gateway with the sample studies; Ctrl-C ends it
	$(BIN)/gateway demo

sandbox: $(STAMP) ## start a sandbox for who writes a client: keys of each role, faults on demand; Ctrl-C ends it
	$(BIN)/gateway demo --sandbox

test: $(STAMP) ## install what the tests need, then check and run everything
	./tests/system-packages
	$(MAKE) --no-print-directory $(STAMP)
	$(MAKE) --no-print-directory --jobs 3 --output-sync=target $(NODE) $(OHIF) check collected
	# One more than CI has processors: many tests wait for processes to start. Those import the same modules, which
	# takes a fifth of a start where the environment keeps Python from writing bytecode, as in many containers.
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist worksteal --durations 20

# What pytest makes of the modules of the tests is kept, so that each of its processes need not do it again; what is
# wrong with one of them, it tells when it runs.
collected: $(STAMP)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only --quiet >/dev/null || true

check: $(STAMP) ## format check, lint, strict types, import contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## format the code and fix what lint can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

samples: $(STAMP) ## generate the sample studies anew
	$(BIN)/python -m sample_dicom.generate

docs: $(STAMP) ## write the generated parts of the documents
	$(BIN)/python -m docs.generate

site: $(STAMP) ## build the site of the documents into site/, strictly: no broken link
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

notices: $(STAMP) ## write the third-party notices of what is installed
	$(BIN)/python -m docs.notices

faults: $(STAMP) ## ROUNDS faults for each pair of engines while it ingests, then simulated power cuts (root)
	for pair in local+sqlite s3+sqlite s3+postgres; do \
		$(BIN)/python -m tests.faults.rounds --engines $$pair --rounds $(ROUNDS) || exit 1; \
	done
	for pair in local+sqlite local+postgres; do \
		$(BIN)/python -m tests.faults.powercut --engines $$pair --cuts 10 || exit 1; \
	done

grid: $(STAMP) ## the interop suite on every pair of engines, with one and with three workers a face
	for workers in 1 3; do \
		$(BIN)/python -m pytest -n 3 --dist worksteal tests/interop --face-workers $$workers \
			--engines local+sqlite,s3+sqlite,s3+postgres || exit 1; \
	done

advisories: $(STAMP) ## compare what is installed with the advisory database (needs the internet)
	$(BIN)/pip-audit --skip-editable --progress-spinner off

deid-grid: $(STAMP) ## de-identification: every pair of options in every encoding, every file validated
	DEID_GRID=1 $(BIN)/python -m pytest -n 2 -q tests/gateway/deid

large: $(STAMP) ## store and read instances of 3 GB; tells the memory that each process took (7 GB of disk)
	$(BIN)/python -m pytest -n 0 -q -m large --engines local+sqlite tests/interop/test_large_instance.py

fuzz: fuzz-dimse fuzz-http ## all of the fuzzing: the next two

fuzz-http: $(STAMP) ## the OpenAPI document against a running gateway, FUZZ_EXAMPLES requests an operation
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-100} $(BIN)/python -m pytest -n 0 tests/conformance/test_openapi.py

fuzz-dimse: $(STAMP) ## broken sessions into a DIMSE server, CASES (100000) of them by SEED (1)
	$(BIN)/python -m tests.fuzz.dimse --cases $${CASES:-100000} --seed $${SEED:-1}

bench: $(STAMP) $(OHIF) ## measure beside Orthanc: C-STORE, DICOMweb, searches, OHIF, S3; 15 minutes with nothing else to do
	mkdir -p $(BENCH)
	$(BIN)/python -m benchmarks.storing $(BENCH) --rounds 3 --count 200
	$(BIN)/python -m benchmarks.serving $(BENCH) --rounds 3 --studies 20000
	$(BIN)/python -m benchmarks.object_stores $(BENCH) --rounds 3
	$(BIN)/python -m benchmarks.writing $(BENCH) --studies 10000 --rounds 4 --count 2000
	$(BIN)/python -m benchmarks.viewer $(BENCH) --rounds 5

bench-scale: $(STAMP) ## searches among 20,000, 100,000 and 1,000,000 studies, rows into 10 million (20 GB of disk, 30 minutes)
	mkdir -p $(BENCH)
	for studies in 20000 100000 1000000; do \
		$(BIN)/python -m benchmarks.search --sqlite $(BENCH)/$$studies/index.sqlite --studies $$studies --instances 2 || exit 1; \
		$(BIN)/python -m benchmarks.scale $(BENCH)/$$studies --studies $$studies || exit 1; \
	done
	$(BIN)/python -m benchmarks.writing $(BENCH)

clean: ## remove the local environment and the data of demo and sandbox
	rm -rf $(VENV) .demo .sandbox $(BENCH) site
