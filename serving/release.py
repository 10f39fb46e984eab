"""A release: everything an answer needs, in one immutable folder, activated by one atomic rename.

    releases/<name>/manifest.json        hashes, moment, settings, metrics, library versions
                    catalogue.parquet    items in row order, their attributes and availability
                    context/             what profiles are compared with
                    blend.json           sources, weights, constant, fallback
                    recommenders/<source>/…
    releases/active.json                 the active name and those before it

Nothing in a release is parsed before its hash is checked.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from profiles import manifest
from profiles.charts import Chart
from profiles.display import Displayed
from profiles.schema import ITEMS, ContractError
from recsys import models
from recsys.dataset import Catalogue, Histories, Queries, Vocabulary
from recsys.ranking import Ranked, top_k
from recsys.recommender import Recommender
from serving.blend import WORDS, BlendConfig, Blended, fuse

LIBRARIES = ("implicit", "numpy", "polars", "scipy", "torch", "transformers")


@dataclass(frozen=True)
class Release(Displayed):
    """Fitted sources and how they blend: the one path of batch, API and evaluation."""

    name: str
    about: Mapping[str, Any]
    catalogue: Catalogue
    recommenders: Mapping[str, Recommender]
    weights: Mapping[str, float]
    blend: BlendConfig
    context: Path | None = None  # what profiles are compared with (features.context), copied when published

    def to_polars(self) -> pl.DataFrame:
        """Return source, recommender and weight: 0 for one that only fills lists or reads words."""
        rows = [(n, type(r).__name__, self.weights.get(n, 0.0)) for n, r in self.recommenders.items()]
        return pl.DataFrame(rows, schema=["source", "recommender", "weight"], orient="row")

    def plot(self) -> Chart:
        """Draw the weights of the sources."""
        from recsys.plots import bars

        return bars(self.to_polars().select(label="source", value="weight"), "weight in the blend")

    def _caption(self) -> str:
        return f"Release {self.name}, as of {self.about['as_of'][:16].replace('T', ' ')}"

    def rankings(
        self,
        queries: Queries,
        sources: Iterable[str],
        excluded: np.ndarray | None = None,
        exclude_seen: bool = True,
    ) -> dict[str, Ranked]:
        """Return each source's best items, as deep as the blend looks."""
        return {
            name: self.recommenders[name].rank(
                queries, self.blend.depth, self.catalogue, exclude_seen, excluded
            )
            for name in sources
        }

    def recommend(
        self,
        queries: Queries,
        k: int,
        excluded: np.ndarray | None = None,
        words: np.ndarray | None = None,
        rankings: Mapping[str, Ranked] | None = None,
    ) -> Blended:
        """Return lists of k items, filled from the fallback, never empty while any item may be shown.

        `words` (d,) is the vector of what the request itself says; it joins the blend as a source of
        its own, as do the own words of a user who has done nothing else. A list that would be empty
        because everything was seen may repeat what was seen.
        `rankings` may give the sources' rankings of the same queries, where they are known.
        """
        deep = _deep_enough(self.blend, k)
        release = self if deep is self.blend else replace(self, blend=deep)
        found = dict(rankings or release.rankings(queries, self.weights, excluded))
        weights = dict(self.weights)
        asked, reader = _asked_in_words(queries, words), release.text_source()
        if asked is not None and reader is not None:
            source = release.recommenders[reader]
            found[WORDS] = source.rank(asked, deep.depth, self.catalogue, True, excluded)
            weights[WORDS] = self._words_weight
        fallback = release._fallback(queries, excluded)
        return fuse(found, weights, self.blend.constant, k, (self.blend.fallback, fallback))

    def _fallback(self, queries: Queries, excluded: np.ndarray | None) -> Ranked:
        name = self.blend.fallback
        filled = self.rankings(queries, [name], excluded)[name]
        empty = filled.lengths == 0
        if not empty.any():
            return filled
        again = self.rankings(queries, [name], excluded, exclude_seen=False)[name]
        choose = empty[:, None]
        return Ranked(
            np.where(choose, again.rows, filled.rows), np.where(choose, again.scores, filled.scores)
        )

    def order(self, queries: Queries, rows: np.ndarray) -> Blended:
        """Return the items `rows` in the order of the blend, seen or not, available or not."""

        def ordered(name: str, asked: Queries = queries) -> Ranked:
            return _within(top_k(self.recommenders[name].score(asked, rows), len(rows)), rows)

        found, weights = {name: ordered(name) for name in self.weights}, dict(self.weights)
        asked, reader = _asked_in_words(queries, None), self.text_source()
        if asked is not None and reader is not None:
            found[WORDS], weights[WORDS] = ordered(reader, asked), self._words_weight
        fallback = self.blend.fallback
        return fuse(found, weights, self.blend.constant, len(rows), (fallback, ordered(fallback)))

    @property
    def _words_weight(self) -> float:
        return self.blend.words_weight * (sum(self.weights.values()) or 1.0)

    def similar(self, queries: Queries, k: int, excluded: np.ndarray) -> Blended | None:
        """Return items for queries whose history is one item; None where no source reads histories."""
        weights = {n: w for n, w in self.weights.items() if self.recommenders[n].reads_history}
        weights = weights or {n: 1.0 for n, r in self.recommenders.items() if r.reads_history}
        if not weights:
            return None
        release = replace(self, blend=_deep_enough(self.blend, k))
        return fuse(release.rankings(queries, weights, excluded), weights, self.blend.constant, k)

    def worded(self, queries: Queries, vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return (vectors, items) scores of the items `rows` by each vector of words alone, 0 without."""
        name, found = self.text_source(), np.zeros((len(vectors), len(rows)), np.float32)
        for place in np.flatnonzero(vectors.any(axis=1)) if name else ():
            asked = _asked_in_words(queries, vectors[place])
            assert name is not None
            assert asked is not None
            found[place] = np.nan_to_num(self.recommenders[name].score(asked, rows)[0])
        return found

    def text_source(self) -> str | None:
        """Return the source that reads the words of a request, if there is one."""
        return next((n for n, r in self.recommenders.items() if r.reads_text), None)


def _asked_in_words(queries: Queries, words: np.ndarray | None) -> Queries | None:
    """Return the queries with nothing but the words to go by; None where no query has any."""
    if words is not None:
        vectors = np.repeat(words[None, :], len(queries), axis=0)
    elif queries.vectors is not None:
        past = np.diff(queries.histories.offsets) > 0
        vectors = np.where(past[:, None], np.nan, queries.vectors)
    else:
        return None
    if np.isnan(vectors).all():
        return None
    return replace(queries, histories=Histories.empty(len(queries)), vectors=vectors.astype(np.float32))


def _deep_enough(blend: BlendConfig, k: int) -> BlendConfig:
    """Return the blend looking at least k deep, so that long lists are not short of items."""
    return blend if k <= blend.depth else blend.model_copy(update={"depth": k})


def _within(ranked: Ranked, rows: np.ndarray) -> Ranked:
    """Turn positions in `rows` into the rows themselves."""
    return Ranked(np.where(ranked.rows >= 0, rows[ranked.rows], -1).astype(np.int32), ranked.scores)


def publish(release: Release, root: Path) -> str:
    """Write a release below `root` and return its name, made from all it was built from. Not yet active."""
    about = {
        **release.about,
        "weights": dict(release.weights),
        "blend": release.blend.model_dump(),
        "sources": {n: type(r).__name__ for n, r in release.recommenders.items()},
    }
    name = release.name or manifest.content_key(about)
    place = root / name
    if place.exists():
        return name
    facts = {
        **about,
        "release": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {library: version(library) for library in LIBRARIES},
    }
    with manifest.building(place, facts) as folder:
        catalogue = release.catalogue
        catalogue.attributes.with_columns(
            pl.Series("row_from", catalogue.available_from), pl.Series("row_to", catalogue.available_to)
        ).write_parquet(folder / "catalogue.parquet")
        for source, recommender in release.recommenders.items():
            kind = next(k for k, c in models.RECOMMENDERS.items() if c is type(recommender))
            recommender.save(folder / "recommenders" / source, kind)
        if release.context is not None:
            shutil.copytree(release.context, folder / "context")
        blend = {"weights": dict(release.weights), "config": release.blend.model_dump()}
        (folder / "blend.json").write_text(json.dumps(blend, indent=2) + "\n")
    return name


def load(folder: Path) -> Release:
    """Check every hash of a release, then read it."""
    about = manifest.verify(folder)
    items = pl.read_parquet(folder / "catalogue.parquet")
    catalogue = Catalogue(
        Vocabulary(items["item_id"]),
        ITEMS.conform(items.drop("row_from", "row_to")),
        items["row_from"].to_numpy(),
        items["row_to"].to_numpy(),
    )
    blend = json.loads((folder / "blend.json").read_bytes())
    sources = about["sources"]
    recommenders = {name: models.load(folder / "recommenders" / name) for name in sources}
    config = BlendConfig.model_validate(blend["config"])
    return Release(folder.name, about, catalogue, recommenders, blend["weights"], config, folder / "context")


@dataclass(frozen=True)
class Releases:
    """The releases of a workspace and the pointer to the active one."""

    root: Path

    @property
    def _pointer(self) -> Path:
        return self.root / "active.json"

    def names(self) -> list[str]:
        """Return complete releases, the oldest first; a folder whose manifest cannot be read is none."""
        found = []
        for path in self.root.glob(f"[!.]*/{manifest.MANIFEST}"):
            with suppress(ContractError):
                found.append((str(manifest.read(path.parent).get("created")), path.parent.name))
        return [name for _, name in sorted(found)]

    def trail(self) -> list[str]:
        """Return the names activated so far, the active one last."""
        try:
            trail: list[str] = json.loads(self._pointer.read_bytes())["trail"]
            if not (isinstance(trail, list) and all(isinstance(name, str) for name in trail)):
                raise TypeError("the trail is no list of names")
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as error:
            raise ContractError(f"{self._pointer}: not readable: {error}; activate a release again") from None
        return trail

    def active(self) -> str | None:
        """Return the active release's name, None before the first activation."""
        trail = self.trail()
        return trail[-1] if trail else None

    def activate(self, name: str) -> None:
        """Check a release's files and point to it; a running server picks it up."""
        if name not in self.names():
            raise ContractError(f"there is no release {name!r}; there are {self.names() or 'none'}")
        manifest.verify(self.root / name)
        before: list[str] = []
        with suppress(ContractError):  # a damaged pointer is mended by activating
            before = [n for n in self.trail() if n != name]
        self._point([*before, name])

    def rollback(self) -> str:
        """Point to the release that was active before this one and return its name."""
        trail = [n for n in self.trail()[:-1] if n in self.names()]
        if not trail:
            raise ContractError("there is no earlier release to go back to")
        manifest.verify(self.root / trail[-1])
        self._point(trail)
        return trail[-1]

    def delete(self, name: str) -> None:
        """Remove a release for good; the active one only once another is."""
        trail = self.trail()
        if trail and trail[-1] == name:
            raise ContractError(f"release {name} is active; activate another one first")
        self._point([n for n in trail if n != name])
        shutil.rmtree(self.root / name)

    def _point(self, trail: list[str]) -> None:
        manifest.write_atomically(self._pointer, json.dumps({"trail": trail}).encode() + b"\n")

    def load_active(self) -> Release:
        """Read the active release."""
        name = self.active()
        if name is None:
            raise ContractError(f"{self.root}: no release is active; run `attune train`")
        return load(self.root / name)
