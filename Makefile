# Every target makes .venv when it is missing or older than pyproject.toml.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test lint bench reliability clean
.DELETE_ON_ERROR:

.venv/installed: pyproject.toml
	@echo 'Installing into .venv: about two minutes, two gigabytes'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

demo: .venv/installed
	$(BIN)/attune demo --workspace demo-workspace

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest --numprocesses auto --dist loadfile

LOGS := log profiles ingest lookup ml1m_last ml1m_time beauty update speed evaluation off_policy
TEXTS := banking77 trec stsb embedding medquad medquad_personal chinese_medical_qa text_into_recommendations

# Small, from public data where ATTUNE_DATA says; what is not there is told, and left out.
bench: .venv/installed
	for name in $(LOGS) $(TEXTS); do $(BIN)/python -m benchmarks.$$name --quick || exit 1; done

# Hours: 10,000 kills of ingesting processes, a million sends of a retry storm.
reliability: .venv/installed
	ATTUNE_TRIALS=10000 $(BIN)/pytest tests/reliability tests/profiles/test_sandbox.py

clean:
	rm -rf .venv demo-workspace build *.egg-info
