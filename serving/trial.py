"""Trials: every source fitted on a split's train and asked its queries; fits kept by content."""

import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from profiles import manifest, memory
from profiles.schema import ContractError
from recsys import models
from recsys.dataset import Catalogue, Dataset, Queries, Vocabulary
from recsys.evaluation import queries
from recsys.ranking import Ranked, top_k
from recsys.recommender import BLOCK, NotApplicableError, Recommender, as_frame
from recsys.split import Split, SplitConfig
from recsys.watch import noting, telling, undertaking
from serving.blend import fit_weights
from serving.progress import Progress
from serving.settings import Settings, SourceChoice
from serving.training import Checkpoints, Tell, teller
from serving.words import Words


@dataclass(frozen=True)
class Cost:
    """What one fit took, and how it went."""

    seconds: float | None  # by the clock of the machine that made it; None: nobody looked at all of it
    size: int  # bytes of what was fitted, as it is saved
    memory: int | None  # the most bytes that fitting took beyond what was held before; None: nobody can tell
    epochs: Sequence[Mapping[str, Any]]  # epoch, loss, validation: of those that learn by epochs

    @classmethod
    def read(cls, place: Path) -> "Cost":
        """Read what a finished fit wrote beside its state."""
        about = manifest.read(place)
        size = sum(file.stat().st_size for file in (place / "state").rglob("*") if file.is_file())
        return cls(about.get("seconds"), size, about.get("memory"), about.get("epochs", []))


@dataclass
class Fits:
    """Fitted recommenders by the content of what they were fitted on and with."""

    folder: Path
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    used: set[str] = field(default_factory=set)

    def fit(
        self,
        choice: SourceChoice,
        data_key: str,
        train: Dataset,
        old: Recommender | None = None,
        tell: Tell | None = None,
    ) -> Recommender:
        """Return the fitted recommender, read back where the same fit was finished before.

        With an `old` one, which `data_key` stands for too, it is that one updated. A fit that was cut off
        goes on from its checkpoint.
        """
        place = self.place(choice, data_key)
        self.used.add(place.name)
        if place.exists():
            try:
                manifest.verify(place)
                return models.load(place / "state")
            except ContractError:  # damaged: it is only a cache
                self.drop(place.name)
        watched = nullcontext() if tell is None else telling(tell)
        with self.checkpoints.kept(), watched, undertaking(place.name):  # until it is saved
            begun = time.perf_counter()
            with noting() as told, memory.taken() as most:
                if old is None:
                    recommender = models.RECOMMENDERS[choice.type](choice.config).fit(train)
                else:
                    recommender = old.update(train)
            about = {
                "fit": choice.describe(),
                "data": data_key,
                "seconds": None if any(fit.resumed for fit in told) else time.perf_counter() - begun,
                "memory": most(),
                "epochs": [asdict(epoch) for fit in told for epoch in fit.epochs],
            }
            with manifest.building(place, about) as folder:
                recommender.save(folder / "state", choice.type)
        return recommender

    def place(self, choice: SourceChoice, data_key: str) -> Path:
        """Return where a fit is kept, once it is finished."""
        return self.folder / manifest.content_key(data_key, choice.describe())

    def drop(self, key: str) -> None:
        """Forget one fit."""
        shutil.rmtree(self.folder / key, ignore_errors=True)

    def prune(self) -> None:
        """Forget the fits that were not used since this object was made."""
        for place in self.folder.glob("[!.]*"):
            if place.name not in self.used:
                self.drop(place.name)


@dataclass(frozen=True)
class Trial:
    """A split, its queries, what each source answered and took; `reasons` says why a source could not."""

    split: Split
    queries: Queries
    recommenders: Mapping[str, Recommender]
    rankings: Mapping[str, Ranked]
    reasons: Mapping[str, str]
    costs: Mapping[str, Cost]

    def lists(self, rankings: Mapping[str, Ranked], items: Vocabulary, k: int) -> pl.DataFrame:
        """Return RECOMMENDATIONS of rankings of the queries, at most k a list."""
        return pl.concat(
            as_frame(Ranked(r.rows[:, :k], r.scores[:, :k]), self.queries.ids, items, source)
            for source, r in rankings.items()
        )

    def truth_rows(self, catalogue: Catalogue) -> list[np.ndarray]:
        """Return the true item rows of each query."""
        users = self.split.truth.group_by("user_id", maintain_order=True).agg("item_id")
        rows = dict(zip(users["user_id"].to_list(), users["item_id"].to_list(), strict=True))
        return [catalogue.items.rows(rows[user]) for user in self.queries.ids]


@dataclass(frozen=True)
class Laboratory:
    """What all trials of one snapshot share."""

    catalogue: Catalogue
    vectors: np.ndarray | None  # (items, d) of the items' texts
    brought: Mapping[str, np.ndarray]  # (items, d) by name: vectors of the user's own
    texts: pl.DataFrame  # user_id, text, timestamp: what users wrote
    words: Words
    settings: Settings
    fits: Fits
    key: str  # of the snapshot and what was derived from it
    timeless: bool
    given: tuple[str, ...] = ()  # digests of the files of a split that others made
    reviews: pl.DataFrame | None = None  # item_id, text, timestamp; None: they are no part of what items say

    def fit_all(
        self,
        train: Dataset,
        data_key: str,
        progress: Progress,
        title: str,
        old: Mapping[str, Recommender] | None = None,
    ) -> tuple[dict[str, Recommender], dict[str, str]]:
        """Fit every source; returns the fitted, and the reasons of those that cannot be.

        With `old` ones, which `data_key` stands for too, those are updated, and no others fitted.
        """
        fitted: dict[str, Recommender] = {}
        reasons: dict[str, str] = {}
        sources = {n: c for n, c in self.settings.sources().items() if old is None or n in old}
        with progress.task(title, len(sources)) as advance:
            for name, choice in sources.items():
                try:
                    before, tell = (old or {}).get(name), teller(f"{title}: {name}", progress)
                    fitted[name] = self.fits.fit(choice, data_key, train, before, tell)
                except NotApplicableError as error:
                    reasons[name] = str(error)
                advance(1)
        if not fitted:
            why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
            raise ContractError(f"no recommender can be fitted: {why}")
        return fitted, reasons

    def dataset(self, interactions: pl.DataFrame, as_of: datetime) -> Dataset:
        """Return what there was at a moment as a dataset."""
        vectors = self.vectors
        if self.reviews is not None:
            vectors = self.words.items(self.catalogue.items.ids, vectors, self.reviews, as_of)
        return Dataset.of(interactions, self.catalogue, as_of, vectors, self.timeless, self.brought)

    def cut_key(self, split: Split) -> str:
        """Stand for a split's train: one log cut by one protocol as it is set, and files as they are.

        Leave-last-out cuts the same moment more than once; splits that share one train have one key.
        """
        evaluation = self.settings.evaluation
        protocol = evaluation.model_dump(mode="json", include=set(SplitConfig.model_fields))
        name = split.name if split.learned is None else split.learned.isoformat()
        return manifest.content_key(self.key, [protocol, name, len(split.train), *self.given])

    def queries(self, split: Split, users: Sequence[str] | None = None) -> Queries:
        """Ask about the users of a split, or some of them."""
        whom = split.users if users is None else users
        vectors = self.words.users(whom, self.texts, split.at)
        limit = self.settings.recommend.history_limit
        return queries(split, self.catalogue, self.settings.evaluation, vectors, limit, whom)

    def run(self, split: Split, progress: Progress, title: str) -> Trial:
        """Fit every source on the split's train and rank for its queries."""
        train = self.dataset(split.train, split.as_of)
        key = self.cut_key(split)
        fitted, reasons = self.fit_all(train, key, progress, f"{title}: fit")
        asked = self.queries(split)
        rankings: dict[str, Ranked] = {}
        depth = max(self.settings.blend.depth, *self.settings.evaluation.ks)  # as deep as a release looks
        with progress.task(f"{title}: rank", len(fitted)) as advance:
            for name, recommender in fitted.items():
                rankings[name] = recommender.rank(asked, depth, self.catalogue)
                advance(1)
        choices = self.settings.sources()
        costs = {name: Cost.read(self.fits.place(choices[name], key)) for name in fitted}
        return Trial(split, asked, fitted, rankings, reasons, costs)


def reference_ranking(path: Path, asked: Queries, catalogue: Catalogue, depth: int) -> Ranked:
    """Rank a known answer (Parquet of user_id, item_id, score) under the masks every source meets."""
    try:
        known = pl.read_parquet(path).select(
            *(pl.col(name).cast(pl.String) for name in ("user_id", "item_id")),
            pl.col("score").cast(pl.Float32),
        )
    except pl.exceptions.PolarsError as error:
        raise ContractError(f"evaluation: reference {path}: {str(error).splitlines()[0]}") from None
    users = pl.DataFrame({"user_id": asked.ids}).with_row_index("row")
    cells = known.join(users, on="user_id")
    columns = catalogue.items.rows(cells["item_id"])
    scores = np.full((len(asked), len(catalogue.items)), np.nan, np.float32)
    kept = columns >= 0
    scores[cells["row"].to_numpy()[kept], columns[kept]] = cells["score"].to_numpy()[kept]
    allowed = catalogue.candidates(asked.at)
    allowed[asked.seen.rows, asked.seen.items] = False
    parts = [top_k(scores[i : i + BLOCK], depth, allowed[i : i + BLOCK]) for i in range(0, len(asked), BLOCK)]
    return Ranked(np.concatenate([p.rows for p in parts]), np.concatenate([p.scores for p in parts]))


def choose_weights(
    trials: Sequence[Trial], able: Collection[str], catalogue: Catalogue, settings: Settings
) -> dict[str, float]:
    """Return the weights of the sources that are `able`: those configured, else those the trials favour."""
    common = [n for n in settings.recommenders if n in able and all(n in t.rankings for t in trials)]
    if isinstance(settings.blend.weights, dict):
        return {n: w for n, w in settings.blend.weights.items() if w > 0 and n in common}
    asked = [({n: t.rankings[n] for n in common}, t.truth_rows(catalogue)) for t in trials if len(t.queries)]
    if not asked or not common:
        return {n: 1 / len(common) for n in common}
    return fit_weights(asked, settings.blend.constant, settings.blend.rounds)
