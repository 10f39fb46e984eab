"""Predicted labels as profile columns: what a classifier makes of the words of users and items.

The probabilities of a text are a vector like any other: made once, kept under the text's hash and the
classifier's seal, gone when the text is forgotten. A user's are the decayed mean over what they wrote.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from nlp import classify
from nlp.classify import Classifier
from nlp.embed import EmbeddingCache, by_hash, decayed_sums
from nlp.label_sets import Probabilities
from profiles import manifest
from profiles.features import Lists
from profiles.features.past import worded
from profiles.schema import DAY, ContractError
from profiles.snapshot import KINDS, Snapshot
from profiles.texts import text_hash

FORMAT = 1  # raise it when the frames of the same snapshot change
PRODUCER = "labels"
UNDERSTOOD = 0.1  # share of the texts a classifier must know something of
ENOUGH = 20  # texts from which that is asked: a young log, or one that lost texts, is built all the same


class LabelsConfig(BaseModel):
    """One classifier whose labels become profile columns, `[[labels]]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        description="column of the likeliest label; beside it stand <name>_probability and <name>_shares",
        pattern=r"^[a-z][a-z0-9_]*$",
    )
    classifier: str = Field(
        description="folder that `attune classify train` wrote, relative to this file; ${VAR} is expanded",
        min_length=1,
    )
    of: Literal["users", "items", "both"] = Field("both", description="whose texts get labels")
    half_life_days: PositiveFloat = Field(90.0, description="a user's text counts half after this many days")
    keep: PositiveInt = Field(3, description="likeliest labels kept with their probability in <name>_shares")

    @property
    def columns(self) -> tuple[str, str, str]:
        """The names of the profile columns."""
        return self.name, f"{self.name}_probability", f"{self.name}_shares"

    @property
    def kinds(self) -> tuple[str, ...]:
        """Whose profiles get them: "user", "item"."""
        return tuple(kind for kind in KINDS if self.of in (f"{kind}s", "both"))


@dataclass(frozen=True)
class Labelling:
    """A classifier at work for one `[[labels]]`; it encodes (`nlp.embed.Encodes`) texts as probabilities."""

    config: LabelsConfig
    folder: Path
    seal: str  # of the classifier's manifest
    labels: tuple[str, ...]
    floor: float  # a label less likely than this is none: above 0 where a text may have none

    @classmethod
    def of(cls, config: LabelsConfig, folder: Path) -> "Labelling":
        """Check the classifier's folder; raises ContractError where it is none, or of another version."""
        about, settings = classify.described(folder)
        floor = settings.threshold if settings.many else 0.0
        return cls(config, folder, about[manifest.SEAL], tuple(about["labels"]), floor)

    @classmethod
    def again(cls, about: dict[str, Any], folder: Path) -> "Labelling":
        """Return the one that `derive` worked with, from its manifest; the folder is not read yet."""
        config = LabelsConfig.model_validate(about["config"])
        return cls(config, folder, about["classifier"], tuple(about["labels"]), about["floor"])

    @property
    def name(self) -> str:
        """What the cache keeps the probabilities under."""
        return f"labels-{self.seal[:16]}"

    @property
    def dimension(self) -> int:
        """How many labels there are."""
        return len(self.labels)

    @cached_property
    def classifier(self) -> Classifier:
        """The classifier, read when a text is new; ContractError where it is not what it was."""
        found = classify.load(self.folder)
        if found.about[manifest.SEAL] != self.seal:
            raise ContractError(
                f"{self.folder}: not the classifier that the profiles were made with; run `attune build`"
            )
        return found

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Probabilities:
        """Return (texts, labels) probabilities; zero where a text holds nothing the classifier knows."""
        found = np.nan_to_num(self.classifier.heard(texts))
        if progress:
            progress(len(texts))
        return found

    def columns(self, found: Probabilities) -> list[pl.Series]:
        """Return label, its probability, and the likeliest labels of each row of `found`; null where NaN.

        Of several labels as likely as each other the one of the earlier name counts.
        """
        known = np.flatnonzero(~np.isnan(found).any(axis=1))
        best = np.argsort(-found[known], axis=1, kind="stable")[:, : self.config.keep]
        chances = np.take_along_axis(found[known], best, axis=1).astype(np.float64)
        given = chances[:, 0] >= self.floor
        labels = np.array(self.labels, object)
        label, chance = np.full(len(found), None, object), np.full(len(found), np.nan)
        label[known[given]], chance[known[given]] = labels[best[given, 0]], chances[given, 0]
        lengths = np.zeros(len(found) + 1, np.int64)
        lengths[known + 1] = best.shape[1]
        values = pl.Series(labels[best.ravel()].tolist(), dtype=pl.String)
        first, second, third = self.config.columns
        return [
            pl.Series(first, label.tolist(), pl.String),
            pl.Series(second, chance, nan_to_null=True),
            Lists(lengths.cumsum(), values, chances.ravel()).series().alias(third),
        ]

    def of_texts(self, vectors: Sequence[np.ndarray]) -> list[pl.Series]:
        """Return the columns of texts, one each."""
        said = np.array(vectors, np.float32).reshape(-1, self.dimension)
        return self.columns(np.where(said.any(axis=1, keepdims=True), said, np.float32(np.nan)))

    def of_users(
        self, ids: Sequence[str], texts: pl.DataFrame, vectors: Mapping[str, np.ndarray], at: datetime
    ) -> list[pl.Series]:
        """Return the columns of users from what they wrote up to `at`: user_id, text_hash, timestamp."""
        sums, weights = decayed_sums(ids, texts, vectors, at, self.config.half_life_days, self.dimension)
        with np.errstate(invalid="ignore"):
            return self.columns(np.minimum(sums / weights, 1))  # sums of parts may round above

    def of_one(self, events: pl.DataFrame, at: datetime, cache: EmbeddingCache) -> dict[str, Any]:
        """Return the columns of one user from their EVENTS up to `at`: what the batch would give them."""
        texts = hashed(events).with_columns(user_id=pl.lit(""))
        return pl.DataFrame(self.of_users([""], texts, self._read(texts, cache), at)).row(0, named=True)

    def behind(self, events: pl.DataFrame, cache: EmbeddingCache, keep: int = 3) -> pl.DataFrame:
        """Return the EVENTS of one user, at most `keep`, whose texts speak most for the likeliest label."""
        texts = hashed(events)
        if not len(texts):
            return events.clear()
        vectors = self._read(texts, cache)
        said = np.array([vectors[name] for name in texts["text_hash"]])
        times = texts["timestamp"].dt.timestamp("us").to_numpy()
        said *= np.exp2((times - times.max()) / (DAY * self.config.half_life_days))[:, None]
        counts = said[:, said.sum(axis=0).argmax()]
        chosen = np.argsort(-counts, kind="stable")[:keep]
        return texts[chosen[counts[chosen] > 0]].select(events.columns)

    def _read(self, texts: pl.DataFrame, cache: EmbeddingCache) -> dict[str, np.ndarray]:
        return by_hash(dict(texts.select("text_hash", "text").iter_rows()), self, cache)


def hashed(events: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that have a text, and its `text_hash`."""
    written = events.filter(worded())
    hashes = [text_hash(text) for text in written["text"]]
    return written.with_columns(text_hash=pl.Series(hashes, dtype=pl.String))


def derive(
    snapshot: Snapshot,
    labelling: Labelling,
    cache: EmbeddingCache,
    root: Path,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write the columns of a snapshot's users and items, as of its moment; returns the folder.

    `root/<snapshot>/labels-<key>` has its own manifest, which names the classifier by its seal; it is
    returned unchanged when it is there already. An item's are of what it says. Raises ContractError where
    the snapshot's profiles have a column of that name, or the classifier knows the words of next to none
    of the texts.
    """
    config = labelling.config
    told = config.model_dump(mode="json")
    place = root / snapshot.name / f"{PRODUCER}-{manifest.content_key(FORMAT, told, labelling.seal)}"
    if place.exists():
        return place
    for kind in config.kinds:
        there = snapshot.frame(f"{kind}_profiles").columns
        for column in set(config.columns).intersection(there):
            raise ContractError(f"{kind} profiles have a column {column!r} already; give another name")
    texts = snapshot.frame("texts").filter(pl.col("owner").is_in(config.kinds))
    vectors = by_hash(dict(texts.select("text_hash", "text").iter_rows()), labelling, cache, progress)
    silent = sum(not vector.any() for vector in vectors.values())
    if len(vectors) >= ENOUGH and len(vectors) - silent < UNDERSTOOD * len(vectors):
        raise ContractError(
            f"{labelling.folder}: this classifier knows the words of {len(vectors) - silent:,} of "
            f"{len(vectors):,} texts: it learned from another language; train one on texts like these"
        )
    about = {
        "producer": PRODUCER,
        "snapshot": snapshot.name,
        "config": told,
        "classifier": labelling.seal,
        "labels": labelling.labels,
        "floor": labelling.floor,
        "texts": len(vectors),
        "silent": silent,
    }
    with manifest.building(place, about) as folder:
        for kind in config.kinds:
            own = texts.filter(owner=kind)
            ids = own["id"].unique().sort()
            if kind == "user":
                written = own.rename({"id": "user_id"})
                columns = labelling.of_users(ids.to_list(), written, vectors, snapshot.as_of)
            else:
                said = dict(own.select("id", "text_hash").iter_rows())
                columns = labelling.of_texts([vectors[said[name]] for name in ids])
            frame = pl.DataFrame([ids.alias(f"{kind}_id"), *columns])
            frame.write_parquet(folder / f"{kind}_profiles.parquet")
    return place
