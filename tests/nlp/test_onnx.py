"""The encoder as ONNX says what the other does, without torch, and refuses what is not right."""

import subprocess
import sys
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
