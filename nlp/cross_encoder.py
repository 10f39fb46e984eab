"""How well one text answers another, read together by a cross-encoder (Nogueira and Cho, 2019).

A text encoder reads each text by itself, so that all answers can be encoded beforehand; a cross-encoder
reads question and answer at once, sees which words meet, and costs a forward pass for each pair: it is for
the few that a search has found.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from nlp import batching
from nlp.encoder import bfloat16_is_fast
from nlp.folder import complete, facts

if TYPE_CHECKING:
    from nlp.cross_network import CrossNetwork

WINDOW = 4096  # pairs tokenised and sorted together


class CrossEncoderConfig(BaseModel):
    """How much a cross-encoder reads, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: int = Field(
        256, ge=8, le=512, description="tokens of both texts together; the model may cap it"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the products: auto is bfloat16 where the processor has it"
    )
    batch_tokens: PositiveInt = Field(4096, description="tokens in one forward pass, padding included")
    batch_size: PositiveInt = Field(64, description="pairs in one forward pass, at most")


class CrossEncoder:
    """Reads pairs of texts with the model of a folder, checked now and loaded at the first call.

    The folder is one that `nlp.rerank.train` sealed, or any sequence classifier of one output in
    safetensors. Safe to share between threads.
    """

    def __init__(self, folder: Path, config: CrossEncoderConfig | None = None) -> None:
        self.config = config or CrossEncoderConfig()
        self.folder = complete(folder)
        self.max_tokens = min(self.config.max_tokens, facts(folder).get("max_position_embeddings", 512))
        precision = self.config.precision
        self.half = precision == "bfloat16" or (precision == "auto" and bfloat16_is_fast())
        self._lock = Lock()
        self._loaded: tuple[Any, CrossNetwork] | None = None

    def scores(
        self, left: Sequence[str], right: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Return (pairs,): the more, the better the right text answers the left; NaN where one is blank."""
        found = np.full(len(left), np.nan, np.float32)
        written = [n for n, pair in enumerate(zip(left, right, strict=True)) if all(map(str.strip, pair))]
        if progress and len(written) < len(found):
            progress(len(found) - len(written))
        for start in range(0, len(written), WINDOW):
            window = np.array(written[start : start + WINDOW])
            self._read(window, left, right, found, progress)
        return found

    def _read(
        self,
        window: npt.NDArray[np.intp],
        left: Sequence[str],
        right: Sequence[str],
        found: npt.NDArray[np.float32],
        progress: Callable[[int], None] | None,
    ) -> None:
        import torch

        from nlp.cross_network import tokenize

        tokenizer, network = self._load()
        with self._lock:
            pairs = tokenize(
                tokenizer, [left[n] for n in window], [right[n] for n in window], self.max_tokens
            )
        lengths = [len(ids) for ids, _ in pairs]
        for batch in batching.by_length(lengths, self.config.batch_tokens, self.config.batch_size):
            with torch.inference_mode():
                read = network.read([pairs[n] for n in batch], tokenizer.pad_token_id or 0)
            found[window[batch]] = read.cpu().numpy()
            if progress:
                progress(len(batch))

    def _load(self) -> "tuple[Any, CrossNetwork]":
        with self._lock:
            if self._loaded is None:
                import torch

                from nlp.cross_network import load

                tokenizer, network = load(self.folder, torch.bfloat16 if self.half else torch.float32)
                self._loaded = tokenizer, network.to("cuda" if torch.cuda.is_available() else "cpu")
            return self._loaded
