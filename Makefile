# Two commands do everything on a machine with Python 3.11 or newer:
#   make demo    set up, start the whole system, run the quickstart study, print its result, stop
#   make test    set up and run the tests
# The tests that take longest (deaths that take minutes to be noticed, machines, shares, fuzzing): make test-long
# Published numbers that need the model hub (and a GPU, to take minutes): make reproduce
PYTHON ?= python3
READY  := .venv/.ready

.PHONY: demo up test test-long reproduce reference setup browser lock clean

demo: setup
	@.venv/bin/mudman demo

up: setup
	@.venv/bin/mudman up

test: setup browser
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/pytest -n 2 --dist loadfile tests/unit tests/core tests/core_data
	@# Most of these wait for processes; what takes longest begins first.
	.venv/bin/pytest -n 3 --dist loadfile --no-loadscope-reorder tests/integration/workers tests/acceptance tests/integration

test-long: setup
	.venv/bin/pytest -m long tests/integration tests/acceptance

reproduce: setup
	.venv/bin/python -m mudman.reproduce $(ROWS)

# docs/reference, from the code; a test says when it is due.
reference: setup
	.venv/bin/python -m service.reference docs/reference

setup: $(READY)

# The pages are tested in a real browser, where there is one or the machine lets us install it.
browser:
	@command -v chromium google-chrome >/dev/null \
		|| { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium chromium-driver >/dev/null; } \
		|| echo "There is no Chromium, and it cannot be installed: the tests in a browser are skipped"

# Everything but torch comes from the lock, with hashes. torch is pinned apart and placed by pip, so that machines with
# and without a GPU share one lock.
$(READY): requirements/all.lock requirements/torch.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --require-hashes --no-deps -r requirements/all.lock
	.venv/bin/python -m pip install --quiet -r requirements/torch.txt
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# After a change of the dependencies in pyproject.toml.
lock:
	.venv/bin/python -m pip install --quiet uv
	$(LOCK) --all-extras --output-file requirements/all.lock
	$(LOCK) --extra service --constraint requirements/all.lock --output-file requirements/service.lock

# torch is no part of the lock, and what depends on it must not bring it or its CUDA libraries in.
LOCK = UV_CUSTOM_COMPILE_COMMAND="make lock" .venv/bin/uv pip compile pyproject.toml --quiet --universal \
	--python-version 3.11 --generate-hashes --override requirements/overrides.txt --no-emit-package torch \
	--no-emit-index-url --no-emit-find-links

clean:
	rm -rf .venv build *.egg-info
