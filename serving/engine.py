"""One live answer: what a user did until now, asked of a release.

A user is their events: those the store holds, or those the request brings. Histories are scored as
they are at this moment, so an event committed before the question is in the answer, and a user nobody
knows is simply one without a past.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from nlp.explain import each_left_out
from profiles import versions
from profiles.features import FeaturesConfig
from profiles.features.context import Context
from profiles.features.context import load as load_context
from profiles.features.evidence import behind
from profiles.features.live import user_profile
from profiles.interactions import InteractionsConfig, interactions
from profiles.schema import EVENTS, EXPOSURES, microseconds
from recsys.dataset import Queries
from recsys.exploration import explore
from recsys.ranking import Ranked
from recsys.split import SplitConfig, seen
from serving.blend import Blended
from serving.explain import Asked, matching, reasons
from serving.release import Release

if TYPE_CHECKING:
    from nlp.labelling import Labelling
    from serving.workspace import Workspace

EVERYTHING = 1 << 62  # events: a user's whole past, as a batch sees it
WORDS_ASKED = 24  # words of a request that are explained: each is one more text to encode
SHOWN = ("title", "categories", "tags", "brand", "price")


@dataclass(frozen=True)
class Past:
    """A user at a moment: the label of the answer, EVENTS up to then, and the watermark they include."""

    user_id: str
    events: pl.DataFrame
    at: datetime
    watermark: int


class Engine:
    """Answers from one release over one workspace's log."""

    def __init__(self, workspace: "Workspace", release: Release, ahead: timedelta = timedelta(0)) -> None:
        """Answer from `release`; `ahead` is how far a client's clock may run before ours."""
        self.workspace = workspace
        self._ahead = ahead
        self._explore = workspace.settings.explore
        self.release = release
        self._words = workspace.words_of(release)
        kept = release.about["settings"]
        self._interactions = InteractionsConfig.model_validate(kept["interactions"])
        self._features = FeaturesConfig.model_validate(kept["profiles"])
        self._seen = SplitConfig.model_validate(
            {k: v for k, v in kept["evaluation"].items() if k in SplitConfig.model_fields}
        )
        self._limit: int = kept["recommend"]["history_limit"]
        attributes = release.catalogue.attributes
        self._shown = attributes.select(c for c in SHOWN if c in attributes.columns)

    def warm(self, at: datetime) -> None:
        """Answer once for nobody and load what answers need, so that the first request is not slow."""
        if self.release.text_source() is not None:
            self._words.query("warm")
        self.recommend(self.past("", at), 1)

    def past(self, user_id: str, at: datetime, events: pl.DataFrame | None = None) -> Past:
        """Read a user's events up to `at`, or take those given instead.

        The watermark is read first: every event up to it is in the answer. An event stamped by a clock
        that runs ahead of ours has happened all the same: the moment moves to it.
        """
        at, watermark = at.astimezone(UTC), self.workspace.store.watermark()
        until = at + self._ahead
        if events is None:
            own = self.workspace.store.tail(user_id, EVERYTHING, until)
        else:
            own = EVENTS.conform(events).filter(pl.col("timestamp") <= until)
            own = own.sort("timestamp", maintain_order=True).with_columns(pl.lit(user_id).alias("user_id"))
        latest = own["timestamp"].max()
        assert latest is None or isinstance(latest, datetime)
        return Past(user_id, own, at if latest is None else max(at, latest), watermark)

    def queries(self, pasts: Sequence[Past]) -> Queries:
        """Turn users into queries at one moment."""
        events = pl.concat([past.events for past in pasts])
        weighted = interactions(events, self._interactions)
        ids, at = [past.user_id for past in pasts], max(past.at for past in pasts)
        written = events.filter(pl.col("text").is_not_null()).select("user_id", "text", "timestamp")
        vectors = None
        reader = self.release.text_source()
        # Own words count where their source has a weight, or where there is nothing else to go by.
        silent = set(ids) - set(weighted.filter(pl.col("weight") > 0)["user_id"])
        if len(written) and reader is not None and (reader in self.release.weights or silent):
            vectors = self._words.users(ids, written, at)
        shown = seen(weighted, self._seen)
        return self.release.catalogue.queries(ids, weighted, at, shown, vectors, self._limit)

    def recommend(
        self,
        past: Past,
        k: int,
        exclude: Sequence[str] = (),
        query_text: str | None = None,
        explain: bool = False,
    ) -> dict[str, Any]:
        """Return the answer of POST /v1/recommendations for one user.

        Where the settings explore, the end of the list may be drawn, and every item has the `propensity` with
        which it stands where it does; what was drawn follows from the answer's id. An answer to words or with
        exclusions is not explored: it could not be asked again.
        """
        queries = self.queries([past])
        degraded = []
        words = self._asked(query_text)
        if query_text and words is None:
            degraded.append("query_text_ignored")
        silent = queries.vectors is None or np.isnan(queries.vectors).all()
        if silent and not len(queries.histories.items):
            degraded.append("cold_user")
        rows = self.release.catalogue.items.rows(list(exclude))
        answer_id, explores = secrets.token_hex(16), self._explore.epsilon > 0 and not (exclude or query_text)
        depth = self._explore.depth(k) if explores else k
        blended = self.release.recommend(queries, depth, rows[rows >= 0], words)
        chances: np.ndarray | None = None
        if explores:
            random = np.random.default_rng(int(answer_id, 16))
            places, chances = explore(int(blended.ranked.lengths[0]), k, self._explore, random)
            blended = blended.taking(places)
        why = (
            reasons(self.release, queries, blended, self._spoken(query_text, words, queries))
            if explain
            else None
        )
        return {
            "recommendation_id": answer_id,
            "release": self.release.name,
            "watermark": past.watermark,
            "degraded": degraded,
            "items": self._items(blended, why, chances),
            "cursor": None,
        }

    def _spoken(self, text: str | None, words: np.ndarray | None, queries: Queries) -> Asked | None:
        """Return what tells which words of a request, where they point somewhere, drew items near."""
        if text is None or words is None:
            return None

        def asked(rows: np.ndarray) -> list[dict[str, Any]]:
            def scores(texts: Sequence[str]) -> np.ndarray:
                return self.release.worded(queries, self._words.encoder.encode(texts), rows)

            return [matching(text, found) for found in each_left_out(text, scores, WORDS_ASKED)]

        return asked

    @property
    def _reads_text(self) -> bool:
        return self.release.text_source() is not None

    def _items(
        self, blended: Blended, why: list[list[dict[str, Any]]] | None, chances: np.ndarray | None = None
    ) -> list[dict[str, Any]]:
        items = []
        for place, row in enumerate(blended.ranked.rows[0][: int(blended.ranked.lengths[0])]):
            sources = [
                {
                    "source": name,
                    "rank": int(blended.ranks[0, place, s]),
                    "score": float(blended.source_scores[0, place, s]),
                    "contribution": float(blended.parts[0, place, s]),
                }
                for s, name in enumerate(blended.sources)
                if blended.ranks[0, place, s] > 0
            ]
            items.append(
                {
                    "item_id": self.release.catalogue.items.ids[int(row)],
                    "rank": place + 1,
                    "score": float(blended.ranked.scores[0, place]),
                    "sources": sources,
                    "reasons": why[place] if why else [],
                    "attributes": {
                        k: v for k, v in self._shown.row(int(row), named=True).items() if v is not None
                    },
                    **({} if chances is None else {"propensity": float(chances[place])}),
                }
            )
        return items

    def rank(self, past: Past, item_ids: Sequence[str]) -> dict[str, Any]:
        """Return the answer of POST /v1/rank: the same items in order, unknown ones last as they came."""
        distinct = list(dict.fromkeys(item_ids))
        rows = self.release.catalogue.items.rows(distinct)
        known = np.sort(rows[rows >= 0])  # ties go to the lower row, however the items came
        items = []
        if len(known):
            items = _ranked(self.release.order(self.queries([past]), known).ranked, self.release)
        listed = {item["item_id"] for item in items}
        unknown = [name for name, row in zip(distinct, rows, strict=True) if row < 0]
        rest = [n for n in distinct if n not in listed and n not in unknown] + unknown
        for name in rest:
            items.append({"item_id": name, "rank": len(items) + 1, "score": None})
        return self._answer(past.watermark, items) | {"unknown": unknown}

    def similar(self, item_id: str, k: int, at: datetime) -> dict[str, Any] | None:
        """Return items like an item: what a user is shown who did only that. None: no such item."""
        row = self.release.catalogue.items.row(item_id)
        if row < 0:
            return None
        event = {"event_id": "", "user_id": "", "item_id": item_id, "event_type": "", "timestamp": at}
        chosen = interactions(EVENTS.conform(pl.DataFrame([event])), InteractionsConfig())
        queries = self.release.catalogue.queries([""], chosen, at)
        blended = self.release.similar(queries, k, np.array([row]))
        items = [] if blended is None else _ranked(blended.ranked, self.release)
        return self._answer(self.workspace.store.watermark(), items)

    def _answer(self, watermark: int, items: list[dict[str, Any]]) -> dict[str, Any]:
        return {"release": self.release.name, "watermark": watermark, "items": items}

    @cached_property
    def _context(self) -> Context:
        assert self.release.context is not None, "a loaded release has one"
        return load_context(self.release.context)

    @cached_property
    def labellings(self) -> "list[Labelling]":
        """What labels users, as of the newest build."""
        from serving.labels import live

        return live(self.workspace)

    def profile(self, user_id: str, at: datetime | None = None) -> dict[str, Any]:
        """Return what the log says of a user: attributes, every profile column, the events behind them."""
        past = self.past(user_id, at or datetime.now(UTC))
        users = self.workspace.store.catalogue("users", user_id)
        users = versions.as_of(users, past.at, "user_id").drop(versions.SINCE, strict=False)
        profile = user_profile(
            user_id, past.events, users, past.at, self._context, self._features, self._interactions
        )
        labelled: dict[str, Any] = {}
        for found in self.labellings:
            labelled |= found.of_one(past.events, past.at, self.workspace.words.cache)
        return {
            "user_id": user_id,
            "known": bool(len(past.events) or len(users)),
            "as_of": past.at,
            "watermark": past.watermark,
            "attributes": users.row(0, named=True) if len(users) else {},
            "profile": {name: value for name, value in profile.items() if name != "user_id"} | labelled,
            "events": past.events.tail(self._features.last_items).reverse().to_dicts(),
        }

    def evidence(self, user_id: str, at: datetime | None = None) -> dict[str, pl.DataFrame]:
        """Return for each profile column the EVENTS it mostly rests on."""
        past = self.past(user_id, at or datetime.now(UTC))
        found = behind(past.events, past.at, self._context, self._features, self._interactions)
        for one in self.labellings:
            spoke = one.behind(past.events, self.workspace.words.cache)
            found |= dict.fromkeys(one.config.columns, spoke)
        return found

    def recommendations(
        self, users: Sequence[str], k: int, as_of: datetime | None = None, query_text: str | None = None
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return RECOMMENDATIONS with titles and their CONTRIBUTIONS for several users, from the live log."""
        at = as_of or datetime.now(UTC)
        queries = self.queries([self.past(user, at) for user in users])
        blended = self.release.recommend(queries, k, words=self._asked(query_text))
        frame, parts = blended.frames(queries.ids, self.release.catalogue.items)
        titles = self.release.catalogue.attributes.select("item_id", "title")
        return frame.join(titles, on="item_id", how="left", maintain_order="left"), parts

    def _asked(self, text: str | None) -> np.ndarray | None:
        return self._words.query(text) if text and self._reads_text else None

    def reasons(
        self, user: str, k: int, as_of: datetime | None = None, query_text: str | None = None
    ) -> pl.DataFrame:
        """Return user_id, item_id, why for a user's list: the reasons of each item, the strongest first."""
        queries = self.queries([self.past(user, as_of or datetime.now(UTC))])
        words = self._asked(query_text)
        blended = self.release.recommend(queries, k, words=words)
        told = reasons(self.release, queries, blended, self._spoken(query_text, words, queries))
        ids = self.release.catalogue.items.take(blended.ranked.rows[0][: len(told)])
        why = ["; ".join(reason["text"] for reason in of) for of in told]
        types = {"user_id": pl.String, "item_id": pl.String, "why": pl.String}
        return pl.DataFrame({"user_id": [user] * len(ids), "item_id": ids, "why": why}, schema=types)


def exposures(answer: dict[str, Any], user_id: str, at: datetime) -> pl.DataFrame:
    """Return an answer as EXPOSURES."""
    items = answer["items"]
    return EXPOSURES.conform(
        pl.DataFrame(
            {
                "recommendation_id": [answer["recommendation_id"]] * len(items),
                "user_id": [user_id] * len(items),
                "item_id": [item["item_id"] for item in items],
                "rank": [item["rank"] for item in items],
                "propensity": [item.get("propensity") for item in items],
                "source": ["blend"] * len(items),
                "release": [answer["release"]] * len(items),
                "blend": ["default"] * len(items),
                "timestamp": [microseconds(at)] * len(items),
            },
            schema_overrides={"propensity": pl.Float64, "timestamp": pl.Int64},
        )
    )


def _ranked(ranked: Ranked, release: Release) -> list[dict[str, Any]]:
    """Return the first list as item_id, rank, score."""
    n = int(ranked.lengths[0])
    names = release.catalogue.items.take(ranked.rows[0][:n])
    return [
        {"item_id": name, "rank": place, "score": float(score)}
        for place, (name, score) in enumerate(zip(names, ranked.scores[0][:n], strict=True), 1)
    ]
