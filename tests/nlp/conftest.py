"""Encoders for the tests: the installed default model, and a BERT small enough to train in a second."""

import shutil
from pathlib import Path

import pytest

from nlp.encoder import EncoderConfig, locate


@pytest.fixture(scope="session")
def folder() -> Path:
    """The folder of the installed default model."""
    found = locate(EncoderConfig())
    assert isinstance(found, Path)
    return found


@pytest.fixture
def tiny(tmp_path: Path, folder: Path) -> Path:
    """A BERT of 16 dimensions and 40 positions, saved in half precision."""
    import torch
    from transformers import BertConfig, BertModel

    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(1)
    model = BertModel(BertConfig(max_position_embeddings=40, **shape)).to(torch.bfloat16)
    made = tmp_path / "tiny"
    model.save_pretrained(made)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, made)
    return made
