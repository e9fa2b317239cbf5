# make demo    set up, then run the whole path on synthetic faces
# make test    set up, then run the tests
# make faults  the long fault tests on real SLURM and Ray clusters, under 15 minutes
# make findings  which surprises of the libraries still hold (findings/README.md)
# make check   formatter, linter, types, import directions
# make docs    write docs/configuration.md from the schema of the configuration
# make site    the documentation as a site, build/site/index.html
# make lock    resolve pyproject.toml again into requirements.lock
PYTHON ?= python3
VENV   ?= .venv
UV      = $(VENV)/bin/uv
READY   = $(VENV)/.ready
JOBS   ?= 2
COMPILED = import fra_dist.api.pretraining, fra_dist.data.decoding.dali_pipeline, fra_dist.report.picture_hook, fra_dist.train.prepare

.PHONY: setup demo test faults check docs site lock findings
setup: $(READY)

$(READY): requirements.lock pyproject.toml scripts/make_venv.sh scripts/uv.lock
	@sh scripts/make_venv.sh "$(PYTHON)" "$(VENV)"
	@echo "Installing the locked packages (about 3 GB to download the first time) ..."
	@VIRTUAL_ENV=$(abspath $(VENV)) $(UV) pip install --quiet --require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(abspath $(VENV)) $(UV) pip install --quiet --no-deps --no-build-isolation -e .
	@PYTHONDONTWRITEBYTECODE= $(VENV)/bin/python -c "$(COMPILED)"  # compiles once what every run uses
	@touch $(READY)

demo: setup
	@$(VENV)/bin/fra-dist demo

test: setup
	@OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(JOBS) -m "not faults"

faults: setup
	@OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 3 --dist loadfile -m faults $(AGAIN) tests/cluster tests/faults_io

findings:
	@findings/run $(NAMES)

check: setup
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@PYTHONPATH=. $(VENV)/bin/lint-imports --no-cache

docs: setup
	@$(VENV)/bin/fra-dist config --markdown > docs/configuration.md

# in an environment of its own, with the extra `docs` alone: building the site imports nothing of the package
SITE = build/site-venv
site: $(SITE)/.ready
	@NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --quiet --strict
	@echo "build/site/index.html"

$(SITE)/.ready: pyproject.toml $(VENV)/bin/uv
	@$(UV) venv --quiet --clear --python $(VENV)/bin/python $(SITE)
	@$(VENV)/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' \
		| VIRTUAL_ENV=$(SITE) $(UV) pip install --quiet -r -
	@touch $@

lock: $(VENV)/bin/uv
	$(UV) pip compile -q pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate -o requirements.lock

$(VENV)/bin/uv: scripts/make_venv.sh
	@sh scripts/make_venv.sh "$(PYTHON)" "$(VENV)"
