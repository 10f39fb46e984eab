"""The encoder as ONNX says what the other does, without torch, and refuses what is not right."""

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from nlp.encoder import EncoderConfig, TextEncoder
from nlp.onnx import OnnxEncoder, export, open_encoder
from profiles.schema import ContractError

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

TEXTS = [
    "red tea pot", "", "a longer text about nothing at all, but with many words in it", "🍕🎉 great!!!",
    "מרחב שלום", "half a pair: \ud83d", "\u200b", "word " * 1000,
]  # fmt: skip


@pytest.fixture
def exported(tiny: Path, tmp_path: Path) -> Path:
    """The tiny model under learned attention and a map to 12 values that may be cut to 4."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(3)
    head = {"attention.weight": torch.randn(1, 16) * 3, "projection.weight": torch.randn(12, 16)}
    save_file(head, tiny / "head.safetensors")
    (tiny / "attune.json").write_text('{"pooling": "attention", "projection": 12, "sizes": [4]}')
    return export(str(tiny), tmp_path / "exported")


def test_the_graph_is_exported_without_a_doubt(tiny: Path, tmp_path: Path) -> None:
    """No warning of what may be wrong in it; that the exporter is an old one is no such."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)
        export(str(tiny), tmp_path / "exported")


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
FAMILIES = {
    "DistilBert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "Roberta": {**SMALL, "vocab_size": 30522, "max_position_embeddings": 64, "pad_token_id": 0},
    "ModernBert": {  # whose tokens of every other layer see two to each side
        **SMALL, "vocab_size": 30522, "pad_token_id": 0,
        "local_attention": 4, "global_attn_every_n_layers": 2,
    },
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_say_the_same_too(family: str, tiny: Path, tmp_path: Path) -> None:
    import torch
    import transformers

    torch.manual_seed(5)
    config = getattr(transformers, f"{family}Config")(**FAMILIES[family])
    made = tmp_path / "made"
    getattr(transformers, f"{family}Model")(config).save_pretrained(made)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny / name, made)
    place = export(str(made), tmp_path / "exported")
    settings = EncoderConfig(model=str(place), precision="float32", max_tokens=40)
    plain, graph = TextEncoder(settings), OnnxEncoder(settings)
    np.testing.assert_allclose(graph.encode(TEXTS), plain.encode(TEXTS), atol=1e-4)


def test_it_says_what_the_encoder_says(exported: Path) -> None:
    for dimension in (None, 4):
        config = EncoderConfig(model=str(exported), precision="float32", dimension=dimension)
        plain, graph = TextEncoder(config), open_encoder(config.model_copy(update={"runtime": "onnx"}))
        assert isinstance(graph, OnnxEncoder)
        assert graph.dimension == plain.dimension == (dimension or 12)
        assert graph.name == f"{plain.name}-onnx"
        vectors = graph.encode(TEXTS)
        assert vectors.dtype == np.float32
        assert not vectors[[1, 6]].any()
        np.testing.assert_allclose(vectors, plain.encode(TEXTS), atol=1e-4)


def test_no_torch_is_loaded(exported: Path) -> None:
    program = f"""
import sys
from nlp.encoder import EncoderConfig
from nlp.onnx import open_encoder
vectors = open_encoder(EncoderConfig(model={str(exported)!r}, runtime="onnx")).encode(["tea", "a pot of tea"])
assert vectors.shape == (2, 12) and vectors.any()
assert not {{"torch", "transformers"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_not_right_is_refused(exported: Path, tiny: Path) -> None:
    with pytest.raises(ContractError, match=r"there is no model\.onnx; `attune onnx` writes"):
        OnnxEncoder(EncoderConfig(model=str(tiny), runtime="onnx"))
    with pytest.raises(ContractError, match="is there already"):
        export(str(tiny), exported)
    graph = exported / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(ContractError, match=r"model\.onnx: its content is not what was published"):
        OnnxEncoder(EncoderConfig(model=str(exported), runtime="onnx"))
    (exported / "manifest.json").unlink()
    graph.write_bytes(b"no graph")
    with pytest.raises(ContractError, match="the text encoder does not load"):
        OnnxEncoder(EncoderConfig(model=str(exported), runtime="onnx")).encode(["tea"])
