"""A snapshot: everything known as of one moment, in an immutable folder of frames."""

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl

from profiles import manifest, versions
from profiles.features import FeaturesConfig, history
from profiles.features.context import Context
from profiles.features.context import load as load_context
from profiles.features.context import save as save_context
from profiles.features.history import History
from profiles.features.profile_build import ProfileBuild
from profiles.interactions import InteractionsConfig
from profiles.log_frames import write_log
from profiles.schema import EPOCH, ContractError, microseconds
from profiles.store import EventStore

FRAMES = ("events", "items", "users", "interactions", "user_profiles", "item_profiles", "texts")
KINDS = ("user", "item")
Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]  # what, of how many: advance


def nothing(_: str, __: int) -> AbstractContextManager[Callable[[int], None]]:
    """Show no progress."""
    return nullcontext(lambda _: None)


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
        if name.endswith("_profiles"):  # memory-mappable, for reading one row
            return pl.read_ipc(self.folder / f"{name}.arrow")
        return pl.read_parquet(self.folder / f"{name}.parquet")

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
    A history of the newest snapshot of the same log is built upon: only newer events are coded.
    """
    watermark, revision = store.watermark(), store.revision()
    moment = _moment(store, watermark, as_of or features_config.as_of)
    items, users, attributes = _catalogue(store, moment)
    timeless = store.marks().get("timeless") == "yes"
    settings = interactions_config.model_dump(), features_config.model_dump(mode="json")
    hashes = [manifest.digest(frame.write_ndjson().encode()) for frame in (items, users)]
    key = manifest.content_key(
        pl.__version__, moment, _log_hash(store, watermark, moment), hashes, settings, timeless
    )
    place = root / key
    if place.exists():
        return Snapshot(place)

    before = newest_history(root, store, watermark, revision)
    start = before.facts["watermark"] if before else 0
    about: dict[str, Any] = {
        "as_of": moment.isoformat(),
        "watermark": watermark,
        "revision": revision,
        "timeless": timeless,
        "attributes": attributes,
        "interactions": settings[0],
        "features": settings[1],
    }
    with manifest.building(place, about) as folder:
        with progress("the log", watermark) as advance:
            counts = write_log(store.scan(0, watermark), moment, items, interactions_config, folder, advance)
        (folder / "history").mkdir()
        log = {"log": _log_of(store), "last_event": _event_at(store, watermark)}
        with progress("histories", watermark - start) as advance:
            past = history.build(
                folder / "history",
                lambda columns: store.scan(start, watermark, columns),
                watermark,
                items["item_id"],
                log | {"watermark": watermark, "revision": revision},
                before,
                advance,
            )
        items.write_parquet(folder / "items.parquet")
        users.write_parquet(folder / "users.parquet")
        written = pl.read_parquet(folder / "texts.parquet").filter(pl.col("owner") == "user")
        with progress("profiles", past.partitions) as advance:
            context = ProfileBuild(
                past, items, users, written.rename({"id": "user_id"}).select("user_id", "text", "timestamp"),
                microseconds(moment), features_config, interactions_config, advance,
            ).run(folder)  # fmt: skip
        save_context(context, folder / "context")
        profiled = (
            pl.scan_ipc(folder / f"{kind}_profiles.arrow").select(pl.len()).collect().item() for kind in KINDS
        )
        about["event_types"] = sorted(counts["types"])
        about["counts"] = {"events": counts["events"], **dict(zip(("users", "items"), profiled, strict=True))}
        if store.revision() != revision:
            raise ContractError(history.CHANGED)
    return Snapshot(place)


def newest_history(root: Path, store: EventStore, watermark: int, revision: int) -> History | None:
    """Return the history of the newest snapshot of this log that a build may go on from.

    One that is damaged, or of a log that went another way after a backup was restored, is passed over.
    """
    same = {"log": _log_of(store), "revision": revision}
    usable = []
    for path in root.glob(f"[!.]*/history/{history.FACTS}"):
        found = History(path.parent)
        with suppress(ValueError):  # no JSON
            if (
                same.items() <= found.facts.items()
                and found.readable
                and found.facts["watermark"] <= watermark
            ):
                usable.append(found)
    for found in sorted(usable, key=lambda h: int(h.facts["watermark"]), reverse=True):
        if found.facts["last_event"] == _event_at(store, found.facts["watermark"]) and _intact(found):
            return found
    return None


def _intact(found: History) -> bool:
    """Whether a history's files are those its snapshot was sealed with."""
    try:
        named = manifest.read(found.folder.parent)["files"]
    except ContractError:
        return False
    sealed = {name: digest for name, digest in named.items() if name.startswith(f"{found.folder.name}/")}
    paths = {f"{found.folder.name}/{path.name}": path for path in found.folder.iterdir()}
    return sealed.keys() == paths.keys() and all(
        manifest.sha256(path) == sealed[name] for name, path in paths.items()
    )


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


def _moment(store: EventStore, watermark: int, asked: datetime | None) -> datetime:
    """Return the moment to build for, once an event is as old."""
    if asked is not None and asked.tzinfo is None:
        raise ContractError(f"as_of = {asked}: a moment needs its time zone")
    times = (part["timestamp"].to_physical().to_numpy() for part in store.scan(0, watermark, ("timestamp",)))
    ends = [(int(part.min()), int(part.max())) for part in times if len(part)]
    if not ends:
        raise ContractError("the log is empty: run `attune ingest` first, or check its rejected rows")
    if asked is None:
        return EPOCH + timedelta(microseconds=max(end for _, end in ends))
    if microseconds(asked) < min(first for first, _ in ends):
        raise ContractError(f"no event is as old as {asked:%Y-%m-%d %H:%M}; choose a later moment")
    return asked.astimezone(UTC)


def _log_hash(store: EventStore, watermark: int, moment: datetime) -> str:
    """Hash the events up to a moment, in the order of the log."""
    found = sha256()
    for batch in store.scan(0, watermark):
        found.update(batch.filter(pl.col("timestamp") <= moment).hash_rows(20).to_numpy().tobytes())
    return found.hexdigest()
