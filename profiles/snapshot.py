"""A snapshot: everything known as of one moment, in an immutable folder of frames."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from profiles import manifest
from profiles.events import event_digest
from profiles.features import FeaturesConfig, item_profiles, user_profiles
from profiles.interactions import InteractionsConfig, interactions
from profiles.schema import EVENTS, TEXTS, ContractError
from profiles.store import EventStore
from profiles.texts import text_hash

FRAMES = ("events", "items", "users", "interactions", "user_profiles", "item_profiles", "texts")


@dataclass(frozen=True)
class Snapshot:
    """The frames of one moment, read when they are asked for."""

    folder: Path

    @cached_property
    def about(self) -> dict[str, Any]:
        """The manifest: as_of, watermark, timeless, counts, settings, file hashes."""
        return manifest.read(self.folder)

    @property
    def name(self) -> str:
        """The content key the folder is named by."""
        return self.folder.name

    @property
    def as_of(self) -> datetime:
        """The moment: no event later than this is in here."""
        return datetime.fromisoformat(self.about["as_of"])

    @property
    def timeless(self) -> bool:
        """Whether times are only an order."""
        return bool(self.about["timeless"])

    def frame(self, name: str) -> pl.DataFrame:
        """Return one of FRAMES."""
        return pl.read_parquet(self.folder / f"{name}.parquet")


def build(
    store: EventStore,
    root: Path,
    interactions_config: InteractionsConfig,
    features_config: FeaturesConfig,
    as_of: datetime | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Snapshot:
    """Build the snapshot of the log's events at or before `as_of`.

    Without it the features' own `as_of` holds, and without either the moment of the last event.

    The folder under `root` is named by everything it depends on, so building the same again returns
    what is there. Holds the log's events in memory (about 0.3 GB a million).
    """
    watermark = store.watermark()
    progress("reading the log")
    events = pl.concat([EVENTS.empty(), *store.scan(0, watermark)])
    if not len(events):
        raise ContractError("the log is empty: run `attune ingest` first, or check its rejected rows")
    moment = as_of or features_config.as_of or events["timestamp"].max()
    assert isinstance(moment, datetime)
    if moment.tzinfo is None:
        raise ContractError(f"as_of = {moment}: a moment needs its time zone")
    moment = moment.astimezone(UTC)
    events = events.filter(pl.col("timestamp") <= moment)
    if not len(events):
        raise ContractError(f"no event is as old as {moment:%Y-%m-%d %H:%M}; choose a later moment")
    items, users = store.catalogue("items"), store.catalogue("users")
    marks = store.marks()
    key = manifest.content_key(
        moment,
        [
            manifest.digest(names.str.join("\n").item().encode())
            for names in (events["event_id"], event_digest(events))
        ],
        [manifest.digest(frame.write_ndjson().encode()) for frame in (items, users)],
        interactions_config.model_dump(),
        features_config.model_dump(mode="json"),
        marks,
    )
    place = root / key
    if place.exists():
        return Snapshot(place)

    progress("weighing interactions")
    weighted = interactions(events, interactions_config)
    types = sorted(events["event_type"].unique())
    user_ids = pl.concat([users["user_id"], events["user_id"]]).unique().sort()
    item_ids = pl.concat([items["item_id"], events["item_id"].drop_nulls()]).unique().sort()
    about = {
        "as_of": moment.isoformat(),
        "watermark": watermark,
        "timeless": marks.get("timeless") == "yes",
        "event_types": types,
        "counts": {"events": len(events), "users": len(user_ids), "items": len(item_ids)},
        "attributes": "current",
        "interactions": interactions_config.model_dump(),
        "features": features_config.model_dump(mode="json"),
    }
    with manifest.building(place, about) as folder:
        for name, frame in (
            ("events", events),
            ("items", items),
            ("users", users),
            ("interactions", weighted),
        ):
            frame.write_parquet(folder / f"{name}.parquet")
        texts(events, items).write_parquet(folder / "texts.parquet")
        progress("building user profiles")
        profiles = user_profiles(user_ids, events, weighted, items, moment, types, features_config)
        profiles.write_parquet(folder / "user_profiles.parquet")
        progress("building item profiles")
        profiles = item_profiles(item_ids, events, moment, types, features_config)
        profiles.write_parquet(folder / "item_profiles.parquet")
    return Snapshot(place)


def texts(events: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Return TEXTS: what users wrote, and what each item says (title, categories, tags, description)."""
    written = events.filter(_worded(pl.col("text")).is_not_null()).select(
        pl.lit("user").alias("owner"), pl.col("user_id").alias("id"), "text", "timestamp"
    )
    said = items.select(
        pl.lit("item").alias("owner"),
        pl.col("item_id").alias("id"),
        pl.concat_str(
            _worded(pl.col("title")),
            _worded(pl.col("categories").list.join(", ")),
            _worded(pl.col("tags").list.join(", ")),
            _worded(pl.col("text")),
            separator=". ",
            ignore_nulls=True,
        ).alias("text"),
        pl.lit(None, EVENTS.schema["timestamp"]).alias("timestamp"),
    ).filter(pl.col("text").str.len_chars() > 0)
    both = pl.concat([written, said])
    hashes = pl.Series("text_hash", [text_hash(t) for t in both["text"]], dtype=pl.String)
    return TEXTS.conform(both.with_columns(hashes))


def _worded(text: pl.Expr) -> pl.Expr:
    """Null where there is nothing but blanks."""
    return pl.when(text.str.strip_chars() != "").then(text)
