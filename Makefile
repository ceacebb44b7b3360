# Everything a developer or a machine needs: demo, test, check, bench. Each target makes what it needs first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-long check format bench bench-flows bench-streams bench-uploads bench-overload bench-setup bench-engines bench-contract bench-authorization clean

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(STAMP)  ## start a server, deploy examples/, make the calls of the README, stop
	$(BIN)/python examples/demo.py

test: $(STAMP)  ## the whole suite
	$(BIN)/python tests/install_programs.py
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not long" $(ARGS)

test-long: $(STAMP)  ## what takes minutes: the whole corpus of probes once more
	$(BIN)/python tests/install_programs.py
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m long $(ARGS)

check: $(STAMP)  ## format, lint, types, import contracts
	$(BIN)/ruff format --check src tests bench examples
	$(BIN)/ruff check src tests bench examples
	$(BIN)/flake8 --select ASYNC100,ASYNC101,ASYNC102,ASYNC103,ASYNC105,ASYNC113,ASYNC118,ASYNC119 --exclude src/minwebhook/child src
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format src tests bench examples
	$(BIN)/ruff check --fix src tests bench examples

bench-setup: $(STAMP)  ## install the peers that the benchmark compares with
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python bench/setup_peers.py

bench: $(STAMP)  ## latency side by side with the peers
	$(BIN)/python bench/latency.py $(ARGS)

bench-flows: $(STAMP)  ## flows: what steps cost, a parallel loop, a waiting flow; ARGS="--kill 100" kills the server instead
	$(BIN)/python bench/flows.py $(ARGS)

bench-streams: $(STAMP)  ## streams of events: delay, idle streams, a crowd of readers
	$(BIN)/python bench/streams.py $(ARGS)

bench-uploads: $(STAMP)  ## large uploads next to cp and to boto3, and what other callers feel of them
	$(BIN)/python bench/uploads.py $(ARGS)

bench-overload: $(STAMP)  ## too much of everything: intake, floods, a full queue, a restart with it
	$(BIN)/python bench/overload.py $(ARGS)

bench-engines: $(STAMP)  ## bun, deno and node: a run that does nothing, next to starting the engine for it
	$(BIN)/python bench/engines.py $(ARGS)

bench-contract: $(STAMP)  ## what arguments and answers cost, without sockets and jobs
	$(BIN)/python -m pytest bench/contract.py --benchmark-columns=min,median,iqr,ops --benchmark-sort=name $(ARGS)

bench-authorization: $(STAMP)  ## what it costs to find out who calls, and what they may
	$(BIN)/python -m pytest bench/authorization.py --benchmark-columns=min,median,iqr,ops --benchmark-sort=name $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/.peers bench/results
