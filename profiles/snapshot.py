"""A snapshot: everything known as of one moment, in an immutable folder of frames."""

import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from profiles import manifest, memory, versions
from profiles.charts import Chart, activity
from profiles.display import Displayed, table
from profiles.features import FeaturesConfig, history_build
from profiles.features.context import Context
from profiles.features.context import load as load_context
from profiles.features.context import save as save_context
from profiles.features.history import FACTS, History
from profiles.features.profile_build import ProfileBuild
from profiles.interactions import InteractionsConfig
from profiles.log_frames import LOG, log_frame, write_log, write_said, written_texts
from profiles.log_parts import LATEST, NEVER, PARTS, Log, Part, parts_of
from profiles.schema import EPOCH, ContractError, microseconds
from profiles.store import EventStore

FRAMES = ("events", "items", "users", "interactions", "user_profiles", "item_profiles", "texts")
KINDS = ("user", "item")
ORIGIN = (*LOG, PARTS, "history")  # what a later snapshot may take over
CHANGED = "events were taken out of the log while it was read; build the snapshot again"
Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]  # what, of how many: advance


def nothing(_: str, __: int) -> AbstractContextManager[Callable[[int], None]]:
    """Show no progress."""
    return nullcontext(lambda _: None)


@dataclass(frozen=True)
class Snapshot(Displayed):
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
        if name.endswith("_profiles"):  # memory-mappable, for reading one row
            return pl.read_ipc(self.folder / f"{name}.arrow")
        if name in LOG:
            return log_frame(self.folder, name)
        return pl.read_parquet(self.folder / f"{name}.parquet")

    def to_polars(self, name: str = "events") -> pl.DataFrame:
        """Return one of FRAMES."""
        return self.frame(name)

    def plot(self) -> Chart:
        """Draw the events by day and type."""
        return activity(self.frame("events"))

    def _repr_html_(self) -> str:
        facts = {"as of": self.as_of, **self.about["counts"], "event types": self.about["event_types"]}
        return table(["", "snapshot"], facts.items(), f"Snapshot {self.name}")

    @cached_property
    def history(self) -> History:
        """The log by user."""
        return History(self.folder / "history")

    @cached_property
    def context(self) -> Context:
        """What profiles were compared with."""
        return load_context(self.folder / "context")


def build(
    store: EventStore,
    root: Path,
    interactions_config: InteractionsConfig,
    features_config: FeaturesConfig,
    as_of: datetime | None = None,
    progress: Progress = nothing,
) -> Snapshot:
    """Build the snapshot of the log's events at or before `as_of`.

    Without it the features' own `as_of` holds, and without either the moment of the last event. The folder
    under `root` is named by everything it depends on, so building the same again returns what is there.
    The newest snapshot of the same log is built upon: of the log only what is newer is read, and files
    that would be written the same are linked.
    """
    watermark, revision = store.watermark(), store.revision()
    asked = as_of or features_config.as_of
    if asked is not None and asked.tzinfo is None:
        raise ContractError(f"as_of = {asked}: a moment needs its time zone")
    origin = built_upon(root, store, watermark, revision)
    known = parts_of(origin.folder) if origin else ()
    log = Log.read(store.scan, watermark, LATEST if asked is None else microseconds(asked), known)
    moment = _moment(log.parts, asked)
    items, users, attributes = _catalogue(store, moment)
    timeless = store.marks().get("timeless") == "yes"
    settings = interactions_config.model_dump(mode="json"), features_config.model_dump(mode="json")
    hashes = [manifest.digest(frame.write_ndjson().encode()) for frame in (items, users)]
    key = manifest.content_key(pl.__version__, moment, log.name, hashes, settings, timeless)
    place = root / key
    if place.exists():
        return Snapshot(place)

    before = Snapshot(origin.folder).history if origin else None
    start = before.facts["watermark"] if before else 0
    about: dict[str, Any] = {
        "as_of": moment.isoformat(),
        "watermark": watermark,
        "revision": revision,
        "timeless": timeless,
        "attributes": attributes,
        "catalogue": hashes,
        "interactions": settings[0],
        "features": settings[1],
    }
    with memory.kept(), manifest.building(place, about, origin) as folder:
        with progress("the log", sum(part.last - part.first for part in log.new)) as advance:
            write_log(log, store.scan, moment, interactions_config, folder, origin, advance)
        same = origin is not None and manifest.read(origin.folder)["catalogue"][0] == hashes[0]
        write_said(items, folder, origin, same)
        (folder / "history").mkdir()
        facts = {"log": _log_of(store), "last_event": _event_at(store, watermark)}
        with progress("histories", watermark - start) as advance:
            past = history_build.build(
                folder / "history",
                lambda columns: store.scan(start, watermark, columns),
                watermark,
                items["item_id"],
                facts | {"watermark": watermark, "revision": revision},
                before,
                (lambda name: origin.link(f"history/{name}", folder)) if origin else None,
                advance,
            )
        items.write_parquet(folder / "items.parquet")
        users.write_parquet(folder / "users.parquet")
        written = written_texts(folder).rename({"id": "user_id"})
        with progress("profiles", past.partitions) as advance:
            context = ProfileBuild(
                past, items, users, written.select("user_id", "text", "timestamp"),
                microseconds(moment), features_config, interactions_config, advance,
            ).run(folder)  # fmt: skip
        save_context(context, folder / "context")
        profiled = (
            pl.scan_ipc(folder / f"{kind}_profiles.arrow").select(pl.len()).collect().item() for kind in KINDS
        )
        about["event_types"] = log.event_types
        about["counts"] = {"events": log.events, **dict(zip(("users", "items"), profiled, strict=True))}
        if store.revision() != revision:
            raise ContractError(CHANGED)
    return Snapshot(place)


def built_upon(root: Path, store: EventStore, watermark: int, revision: int) -> manifest.Origin | None:
    """Return the newest snapshot of this log that a build may go on from, of two the one of a later moment.

    One that is damaged, or of a log that went another way after a backup was restored, is passed over.
    """
    same = {"log": _log_of(store), "revision": revision}
    usable = []
    for path in root.glob(f"[!.]*/history/{FACTS}"):
        found = Snapshot(path.parent.parent)
        with suppress(ValueError, LookupError, TypeError, AttributeError):  # not what was written there
            facts = found.history.facts
            if same.items() <= facts.items() and found.history.readable and facts["watermark"] <= watermark:
                usable.append((int(facts["watermark"]), found.as_of, found))
    for number, _, found in sorted(usable, key=lambda known: known[:2], reverse=True):
        if found.history.facts["last_event"] == _event_at(store, number):
            with suppress(ContractError):
                return manifest.Origin.checked(found.folder, ORIGIN)
    return None


def _event_at(store: EventStore, watermark: int) -> str | None:
    """Return the id of the event with a sequence number; None where it was taken out."""
    found = [id_ for part in store.scan(watermark - 1, watermark, ("event_id",)) for id_ in part["event_id"]]
    return found[0] if found else None


def _log_of(store: EventStore) -> str:
    """Return the name of the log, made when it is first asked for."""
    marks = store.marks()
    if "log" not in marks:
        store.mark("log", secrets.token_hex(16))
    return store.marks()["log"]


def _catalogue(store: EventStore, moment: datetime) -> tuple[pl.DataFrame, pl.DataFrame, str]:
    """Return ITEMS and USERS as of a moment, and whether their attributes are."""
    items, users = store.catalogue("items"), store.catalogue("users")
    versioned = versions.is_versioned(items) or versions.is_versioned(users)
    return (
        versions.as_of(items, moment, "item_id"),
        versions.as_of(users, moment, "user_id"),
        "versioned" if versioned else "current",
    )


def _moment(parts: Sequence[Part], asked: datetime | None) -> datetime:
    """Return the moment to build for, once an event is as old."""
    first = min(part.earliest for part in parts)
    if first == NEVER:
        raise ContractError("the log is empty: run `attune ingest` first, or check its rejected rows")
    if asked is None:
        return EPOCH + timedelta(microseconds=max(part.latest for part in parts))
    if microseconds(asked) < first:
        raise ContractError(f"no event is as old as {asked:%Y-%m-%d %H:%M}; choose a later moment")
    return asked.astimezone(UTC)
