"""A source that is mapped and screened, given out in parts: EVENTS with their ids, or all of a catalogue."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from profiles.events import event_ids, hashes
from profiles.schema import EVENTS, REJECTED
from profiles.sources.occurrences import (
    CONTENT,
    COUNT,
    KEY,
    Spill,
    content_before,
    count_before,
    halves,
    whole,
)
from profiles.sources.screening import FILE, ROW, refuse_repeated_events, refuse_repeated_ids, rejected
from profiles.sources.source_config import FRAMES, Kind, SourceConfig
from profiles.sources.spool import Part, Spool
from profiles.sources.tally import Tally

READY = "ready.json"


@dataclass(frozen=True)
class Batch:
    """What a source gave, or one part of it. `rows` read = frame + rejected + `duplicates`.

    `origin` (file, row) says where each row of `frame` stands.
    """

    frame: pl.DataFrame
    rejected: pl.DataFrame
    notes: list[str] = field(default_factory=list)
    timeless: bool = False
    files: list[Path] = field(default_factory=list)
    rows: int = 0
    duplicates: int = 0
    origin: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(schema={"file": pl.String, "row": pl.Int64})
    )
    repeats: Tally = field(default_factory=Tally)


@dataclass
class About:
    """What is known of a source once all of it is mapped and screened; kept beside its parts."""

    names: list[str]  # of the files, for messages
    files: list[str]
    notes: list[str]
    timeless: bool
    parts: list[Part] = field(default_factory=list)
    rows: int = 0
    refused: Tally = field(default_factory=Tally)
    mended: Tally = field(default_factory=Tally)

    def dump(self) -> bytes:
        """Return it as JSON."""
        plain = {**self.__dict__, "refused": self.refused.plain(), "mended": self.mended.plain()}
        return json.dumps({**plain, "parts": [asdict(part) for part in self.parts]}).encode()

    @classmethod
    def load(cls, content: bytes) -> "About":
        """Return what was dumped."""
        plain: dict[str, Any] = json.loads(content)
        tallies = {name: Tally(plain[name]) for name in ("refused", "mended")}
        return cls(**{**plain, **tallies, "parts": [Part(**part) for part in plain["parts"]]})


class Reading:
    """A source mapped and screened, given out in parts that fit into memory."""

    def __init__(self, source: SourceConfig, kind: Kind, spool: Spool, about: About) -> None:
        self.source, self.kind, self.spool, self.about = source, kind, spool, about
        self._counts = Spill(spool.folder / "contents", COUNT, count_before)
        self._contents = Spill(spool.folder / "ids", CONTENT, content_before)

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return len(self.about.parts)

    def notes(self, repeats: Tally, duplicates: int) -> list[str]:
        """Say what is wrong with the source; `repeats` and `duplicates` are those of all parts."""
        about = self.about
        said = [*about.notes, *about.refused.lines(about.names, "left out")]
        said += repeats.lines(about.names, "left out")
        said += about.mended.lines(about.names, "kept without it")
        if duplicates:
            label = self.source.label
            said.append(f"{label}: rows that repeat an event_id and its content: {duplicates:,}; kept once")
        return said

    def events(self, number: int) -> Batch:
        """Return one part of EVENTS, with ids, and what of it is refused."""
        spool, part, label = self.spool, self.about.parts[number], self.source.label
        ready = spool.read("ready", number)
        refused = spool.read("refused", number) if spool.has("refused", number) else REJECTED.empty()
        repeats, duplicates = Tally(), 0
        if ready["event_id"].count():
            kept, other, duplicates = refuse_repeated_events(ready, self._first(ready, number))
            if other.height:
                repeats.add("event_id", other)
                lost = rejected(label, self.about.names, spool.read("raw", number), part.before, [other])
                refused = pl.concat([refused, lost]).sort("row")
            ready = kept
        return Batch(
            EVENTS.conform(self._named(ready, number).select(*EVENTS.columns)),
            refused,
            timeless=self.about.timeless,
            files=[Path(file) for file in self.about.files],
            rows=ready.height + refused.height + duplicates,
            duplicates=duplicates,
            origin=self._origin(ready),
            repeats=repeats,
        )

    def drop(self, number: int) -> None:
        """Let go of a part of EVENTS that is needed no more."""
        for stage in ("ready", "refused", "raw"):
            self.spool.drop(stage, number)

    def rows(self) -> Batch:
        """Return all ITEMS or USERS: as many as there are ids, in memory."""
        frame, spool, about = FRAMES[self.kind], self.spool, self.about
        numbers = range(self.parts)
        if not self.parts:
            return Batch(frame.empty(), REJECTED.empty(), self.notes(Tally(), 0))
        ready = [spool.read("ready", number) for number in numbers]
        kept = pl.concat(
            ready, how="diagonal_relaxed"
        ).rechunk()  # polars 2.1 panics on some frames in chunks
        last = refuse_repeated_ids(kept, [key for key in (frame.key[0], "valid_from") if key in kept.columns])
        repeats, lost = Tally(), []
        again = last.refused.get(0)
        if again is not None:
            repeats.add("id", again)
        for number in numbers:
            found = [spool.read("refused", number)] if spool.has("refused", number) else []
            if again is not None:
                part = about.parts[number]
                here = (pl.col(FILE) == part.place) & pl.col(ROW).is_between(
                    part.before + 1, part.before + part.rows
                )
                if (rows := again.filter(here)).height:
                    raw = spool.read("raw", number)
                    found.append(rejected(self.source.label, about.names, raw, part.before, [rows]))
            lost += [pl.concat(found).sort("row")] if found else []
        return Batch(
            frame.conform(last.rows.drop(FILE, ROW)),
            pl.concat([REJECTED.empty(), *lost]),
            self.notes(repeats, 0),
            False,
            [Path(file) for file in about.files],
            about.rows,
            origin=self._origin(last.rows),
            repeats=repeats,
        )

    def compare(self, number: int, ready: pl.DataFrame) -> None:
        """Count the contents and explicit ids of the next part of EVENTS."""
        bare = ready.filter(pl.col("event_id").is_null()).select(halves("digest"))
        if bare.height:
            counted = bare.group_by(KEY, maintain_order=True).agg(count=pl.len().cast(pl.UInt64))
            self._counts.add(counted.with_columns(part=pl.lit(number, pl.UInt32)))
        named = ready.filter(pl.col("event_id").is_not_null()).unique(
            "event_id", keep="first", maintain_order=True
        )
        if named.height:
            ids = hashes(named["event_id"]).alias("id").to_frame().select(halves("id"))
            contents = named.select(halves("digest")).rename({name: f"digest_{name}" for name in KEY})
            records = pl.concat([ids, contents], how="horizontal")
            self._contents.add(records.with_columns(part=pl.lit(number, pl.UInt32)))

    def compared(self) -> None:
        """Find out what came before, once every part is counted."""
        self._counts.finish()
        self._contents.finish()

    def _first(self, ready: pl.DataFrame, number: int) -> pl.DataFrame:
        """Return the explicit ids of a part that an earlier part has, and their content there."""
        before = self._contents.of(number)
        ids = ready.select("event_id").drop_nulls().unique(maintain_order=True)
        keys = hashes(ids["event_id"]).alias("id").to_frame().select(halves("id"))
        named = pl.concat([ids, keys], how="horizontal").join(before, on=KEY, how="inner")
        return named.select("event_id", digest=whole(named["digest_high"], named["digest_low"]))

    def _named(self, ready: pl.DataFrame, number: int) -> pl.DataFrame:
        bare = ready.filter(pl.col("event_id").is_null()).select("digest", *halves("digest"))
        if not bare.height:
            return ready
        before = self._counts.of(number).select(*KEY, before="count")
        nth = bare.join(before, on=KEY, how="left", maintain_order="left").select(
            pl.int_range(pl.len()).over(KEY) + pl.col("before").fill_null(0).cast(pl.Int64)
        )
        ids = event_ids(bare["digest"], nth.to_series(), self.source.label)
        places = ready["event_id"].is_null().arg_true()
        return ready.with_columns(event_id=ready["event_id"].scatter(places, ids))

    def _origin(self, rows: pl.DataFrame) -> pl.DataFrame:
        names = dict(enumerate(self.about.names))
        return rows.select(
            pl.col(FILE).replace_strict(names, return_dtype=pl.String).alias("file"),
            pl.col(ROW).cast(pl.Int64).alias("row"),
        )
