# make demo    the main job: upload real X-rays, see their labels (DATA=folder for your own)
# make check   format, lint, types and quick tests: before each commit
# make test-quick   tests without a stack and without training, in a minute
# make test    the whole test suite (ARGS="-k name" for a part of it)
# make docker-test    docker/ on a real container engine (installed and started where it can be)
# make plugin  one folder to mount or copy into an Orthanc of your own
# make docs    write docs/configuration.md and the README's picture anew
# make lint    formatting, lint, types
# make hooks   run ruff and mypy at each git commit
# make bench   measure, and print the tables of benchmarks/
# make clean   remove what these made
.PHONY: demo check test test-quick docker-test plugin docs lint hooks bench clean worker-environment dev-environment

# A process of tests for each core. Each of them holds up to 2 GB.
PARALLEL = -n auto --maxprocesses 4 --dist loadgroup

worker-environment:
	@requirements/setup .venv requirements/worker-cpu.txt

dev-environment:
	@requirements/setup .venv-dev requirements/dev.txt

demo: worker-environment
	@.venv/bin/dicom-router demo $(if $(DATA),"$(DATA)")

test: dev-environment
	@.venv-dev/bin/python -m pytest --ignore=tests/docker $(PARALLEL) --durations=10 $(ARGS)

test-quick: dev-environment
	@.venv-dev/bin/python -m pytest --ignore=tests/docker $(PARALLEL) --durations=5 -m "not slow and not stack" $(ARGS)

check: lint test-quick

docker-test: dev-environment
	@tests/docker/engine .venv-dev/bin/python -m pytest tests/docker $(ARGS)

plugin:
	@requirements/setup .venv-plugin requirements/uv.txt
	@.venv-plugin/bin/python -m worker.local.plugin_folder build

docs: dev-environment
	@.venv-dev/bin/python -m docs.generate
	@WRITE_PICTURE=1 .venv-dev/bin/python -m pytest -q tests/docs/test_picture.py

lint: dev-environment
	@.venv-dev/bin/ruff check .
	@.venv-dev/bin/ruff format --check .
	@.venv-dev/bin/mypy
	@.venv-dev/bin/hadolint docker/*/Dockerfile

hooks: dev-environment
	@.venv-dev/bin/pre-commit install

bench: dev-environment
	@.venv-dev/bin/python -m benchmarks.ingest
	@.venv-dev/bin/python -m benchmarks.scaling
	@.venv-dev/bin/python -m benchmarks.inference
	@.venv-dev/bin/python -m benchmarks.gate

clean:
	rm -rf .venv .venv-dev .venv-plugin build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
