"""A text encoder as ONNX: a serving process reads a query with onnxruntime and tokenizers, without torch."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from nlp import batching, folder
from nlp.embed import Encodes
from nlp.encoder import EncoderConfig, TextEncoder, dimension_of, locate
from profiles import manifest
from profiles.schema import ContractError

MODEL = "model.onnx"
OPSET = 17


def open_encoder(config: EncoderConfig) -> Encodes:
    """Return the encoder by the runtime the settings name."""
    return OnnxEncoder(config) if config.runtime == "onnx" else TextEncoder(config)


class OnnxEncoder:
    """What `TextEncoder` says in float32, to 1e-4, by onnxruntime; for the folder that `export` wrote.

    `name` holds a digest of the files, as that one's does. Safe to share between threads.
    """

    name: str
    dimension: int

    def __init__(self, config: EncoderConfig) -> None:
        self.config = config
        place = locate(config)
        if not isinstance(place, Path) or not (place / MODEL).is_file():
            raise ContractError(
                f'{place}: there is no {MODEL}; `attune onnx` writes a folder for runtime = "onnx"'
            )
        if config.pooling or not (place / "tokenizer.json").is_file():
            raise ContractError(
                f'{place}: runtime = "onnx" wants tokenizer.json, and pools as it was exported'
            )
        facts, recipe = folder.facts(place), folder.recipe_of(place)
        self.folder = place
        self.dimension = dimension_of(place, config, recipe, facts["hidden_size"])
        self.max_tokens = min(config.max_tokens, facts.get("max_position_embeddings", 512))
        self.pad = int(facts.get("pad_token_id") or 0)
        told = [place.resolve().name, folder.digest(place), str(self.max_tokens)]
        self.name = "-".join([*told, f"{self.dimension}d", "onnx"] if config.dimension else [*told, "onnx"])
        self._lock = Lock()
        self._loaded: tuple[Any, Any] | None = None

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> np.ndarray:
        """Return (texts, dimension) float32 of length one, zero for a text without words, in order."""
        tokens, most = self.config.batch_tokens, self.config.batch_size
        return batching.encode(texts, self.dimension, self._tokenize, self._forward, tokens, most, progress)

    def _tokenize(self, texts: Sequence[str]) -> dict[int, list[int]]:
        written = {row: text for row, text in enumerate(texts) if text.strip()}
        if not written:
            return {}
        tokenizer, _ = self._load()
        safe = [text.encode("utf-8", "replace").decode() for text in written.values()]
        read = [encoding.ids for encoding in tokenizer.encode_batch(safe)]
        marks = tokenizer.num_special_tokens_to_add(False)
        return {row: ids for row, ids in zip(written, read, strict=True) if len(ids) > marks}

    def _forward(self, tokens: list[list[int]]) -> np.ndarray:
        ids, mask = batching.padded(tokens, self.pad)
        (vectors,) = self._load()[1].run(None, {"ids": ids, "mask": mask})
        cut = vectors[:, : self.dimension]
        unit: np.ndarray = cut / np.linalg.norm(cut, axis=1, keepdims=True)
        return unit

    def _load(self) -> tuple[Any, Any]:
        with self._lock:
            if self._loaded is None:
                self._loaded = _load(self.folder, self.max_tokens)
            return self._loaded


def _load(place: Path, max_tokens: int) -> tuple[Any, Any]:
    try:
        import onnxruntime
    except ImportError:
        raise ContractError('runtime = "onnx" needs onnxruntime: pip install "attune[text]"') from None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
        session = onnxruntime.InferenceSession(str(place / MODEL), providers=["CPUExecutionProvider"])
    except Exception as error:  # neither library has a kind of error of its own
        raise ContractError(f"{place}: the text encoder does not load: {error}") from None
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return tokenizer, session


def export(model: str, place: Path) -> Path:
    """Write the folder of an encoder with its ONNX graph beside the weights, sealed; returns `place`."""
    if place.exists():
        raise ContractError(f"{place} is there already; name a new folder")
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise ContractError('export as ONNX needs onnx: pip install "attune[text]"') from None
    import torch

    from nlp.network import eager, load, masks_without_lookups

    found = locate(EncoderConfig(model=model))
    assert isinstance(found, Path)  # nothing may be downloaded
    recipe = folder.recipe_of(found)
    _, network = load(found, recipe)

    class Graph(torch.nn.Module):
        """The network as one straight line: no branch on whether there is padding."""

        def __init__(self) -> None:
            super().__init__()
            self.network = eager(network)

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            states = self.network.body(input_ids=ids, attention_mask=mask).last_hidden_state
            return self.network.pool(states, mask)

    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 0]])
    free = {0: "texts", 1: "tokens"}
    with manifest.building(place, {"producer": "onnx", "base": found.name}) as made:
        for name in folder.FILES:
            if (found / name).is_file():
                shutil.copyfile(found / name, made / name)
        (made / folder.RECIPE).write_text(recipe.model_dump_json(indent=2) + "\n", "utf-8")
        with torch.inference_mode(), masks_without_lookups():
            torch.onnx.export(
                Graph().eval(), (ids, (ids > 0).long()), str(made / MODEL), dynamo=False, opset_version=OPSET,
                input_names=["ids", "mask"], output_names=["vectors"],
                dynamic_axes={"ids": free, "mask": free, "vectors": {0: "texts"}},
            )  # fmt: skip
    return place
