# On Linux the torch of a public registry is the CUDA build; for the CPU build:
#   make demo PIP_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu'
PYTHON ?= python3
PIP_ARGS ?=

.PHONY: install demo test lint docs bench

install:
	@$(PYTHON) tools/install.py $(PIP_ARGS)

demo: install
	@.venv/bin/python -m monai_anat demo out/demo

test: install
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n auto --dist loadfile

lint: install
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/codespell

docs: install
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet --site-dir site

bench: install
	.venv/bin/python benchmarks/loader.py && .venv/bin/python benchmarks/throughput.py
