"""Short names for the encoders of all tests."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def folder(bert_folder: Path) -> Path:
    """The folder of the installed default model."""
    return bert_folder


@pytest.fixture
def tiny(tiny_bert: Path) -> Path:
    """A BERT of 16 dimensions and 40 positions."""
    return tiny_bert
