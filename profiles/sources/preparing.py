"""A source from its rows to a Reading, in bounded memory.

A source is read once: parsed apart (`sandbox`), written to a spool, and mapped and screened a file at a
time, because the unit of its times is that of the whole file. Only when every row of every file has been
seen is anything given out: a file that turns out to be broken leaves nothing behind.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import polars as pl

from profiles.events import event_hash
from profiles.manifest import write_atomically
from profiles.schema import AHEAD, ContractError
from profiles.sources.casting import Times, TimeUnit
from profiles.sources.locating import Found, find
from profiles.sources.mapping import Target, complete
from profiles.sources.reading import READY, About, Reading
from profiles.sources.sandbox import Rows, Sandbox
from profiles.sources.screening import (
    FILE,
    ROW,
    Screened,
    convert,
    rejected,
    screen_events,
    screen_rows,
    times,
)
from profiles.sources.source_config import FRAMES, Kind, SourceConfig
from profiles.sources.spool import Part, Spool

T = TypeVar("T")
Advance = Callable[[int], None]


def prepare(
    source: SourceConfig,
    kind: Kind,
    root: Path,
    now: datetime,
    folder: Path,
    sandbox: Sandbox,
    advance: Advance = lambda _: None,
) -> Reading:
    """Read a source into `folder`, map and screen every row; at once where that is done already.

    `advance` is told steps, of which there are `steps(source, root)`. Raises ContractError for what the
    user has to mend, naming the source and the file.
    """
    spool = Spool(folder)
    try:
        if (folder / READY).exists():
            return Reading(source, kind, spool, About.load((folder / READY).read_bytes()))
        if source.attributes and kind == "events":
            raise ContractError(
                "attributes are for items and users; what else an event has goes into properties"
            )
        spool.begin()
        found = find(source, root)
        rows, names = _rows(source, root, found, sandbox, advance)
        files = [str(file) for file in found.files]
        timeless = kind == "events" and "order" in source.columns
        reading = Reading(source, kind, spool, About(names, files, [*found.notes], timeless))
        with closing(rows):
            _Gathering(reading, now, found, advance).take_all(rows)
        if names and not reading.about.rows:
            raise ContractError(f"{', '.join(names[:3])}: no rows")
    except ContractError as error:
        raise ContractError(f"[[{kind}]] {source.label!r}: {error}") from error
    reading.compared()
    write_atomically(folder / READY, reading.about.dump())
    return reading


def steps(source: SourceConfig, root: Path) -> int | None:
    """Return how many steps `prepare` tells of; None where that cannot be known before."""
    files = find(source, root).files
    return 2 * sum(file.stat().st_size for file in files) or None


def _rows(
    source: SourceConfig, root: Path, found: Found, sandbox: Sandbox, advance: Advance
) -> tuple[Generator[Rows], list[str]]:
    if source.url is None:
        return sandbox.parse(found.files, source.reader, advance), [str(file) for file in found.files]
    from profiles.sources.sql_source import ask, masked

    return ask(source, root, sandbox.limits, advance), [masked(source.url)]


class _Gathering:
    """Takes rows as they come and, where a file ends, maps and screens it."""

    def __init__(self, reading: Reading, now: datetime, found: Found, advance: Advance) -> None:
        self.reading, self.about, self.spool = reading, reading.about, reading.spool
        self.source, self.frame = reading.source, FRAMES[reading.kind]
        self.latest, self.found, self.advance = now + AHEAD, found, advance

    def take_all(self, rows: Iterator[Rows]) -> None:
        """Take the rows of all files."""
        place = -1
        for some in rows:
            if some.place != place:
                self._end(place)
                place = some.place
                self._begin(some)
            self._take(some)
        self._end(place)

    def _begin(self, rows: Rows) -> None:
        self.first, self.rows, self.text = len(self.about.parts), 0, rows.text
        self.header = self._keyed(rows).clear()
        self.targets: dict[str, Target] = self._told(
            rows.place,
            lambda: complete(self.source.columns, self.source.attributes, self.frame, self.header),
        )
        self.times: dict[str, Times] = {}

    def _take(self, rows: Rows) -> None:
        if not rows.frame.height:
            return
        raw = self._keyed(rows)
        if self.source.time_unit == "auto":
            found = self._told(rows.place, lambda: times(raw, self.targets, self.frame))
            self.times = {name: self.times.get(name, Times()) + part for name, part in found.items()}
        self.header = pl.concat([self.header, raw.clear()], how="diagonal_relaxed")
        self.spool.write("raw", len(self.about.parts), raw)
        self.about.parts.append(Part(rows.place, self.rows, raw.height))
        self.rows += raw.height

    def _end(self, place: int) -> None:
        """Map and screen the file that ends, part by part."""
        if place < 0:
            return
        if not self.rows:
            self._convert(place, self.header)
        size = self.found.files[place].stat().st_size if self.found.files else 0
        empty: tuple[int, int] | None = None  # the first empty line, and how many there are
        for number in range(self.first, len(self.about.parts)):
            part, raw = self.about.parts[number], self.spool.read("raw", number)
            if raw.schema != self.header.schema:
                raw = pl.concat([self.header, raw], how="diagonal_relaxed")
                self.spool.write("raw", number, raw)
            work = self._convert(place, raw).with_columns(
                pl.lit(place, pl.Int32).alias(FILE),
                pl.int_range(part.before + 1, part.before + 1 + pl.len()).alias(ROW),
            )
            if self.text:
                blank = raw.select(pl.all_horizontal(pl.all().is_null())).to_series()
                if blank.any():
                    first, count = empty or (part.before + int(blank.arg_true()[0]) + 1, 0)
                    empty = (first, count + int(blank.sum()))
                    work = work.filter(~blank)
            self.about.rows += work.height
            self._keep(number, part, raw, self._screen(work))
            self.advance(size * part.rows // max(1, self.rows))
        if empty:
            where = f"{self.about.names[place]}, row {empty[0]}"
            self.about.notes.append(f"{where}: an empty line ({empty[1]:,} in all); skipped")

    def _convert(self, place: int, raw: pl.DataFrame) -> pl.DataFrame:
        units: dict[str, TimeUnit] = {name: found.unit for name, found in self.times.items()}
        if self.source.time_unit != "auto":
            units = dict.fromkeys(self.targets, self.source.time_unit)
        return self._told(place, lambda: convert(raw, self.targets, self.frame, units))

    def _screen(self, work: pl.DataFrame) -> Screened:
        if self.reading.kind == "events":
            return screen_events(work, self.latest, self.about.timeless)
        return screen_rows(work, self.frame.key[0])

    def _keep(self, number: int, part: Part, raw: pl.DataFrame, found: Screened) -> None:
        for check, lost in found.refused.items():
            self.about.refused.add((part.place, check), lost)
        for check, kept in found.mended.items():
            self.about.mended.add((part.place, check), kept)
        if found.refused:
            refused = [*found.refused.values()]
            aside = rejected(self.source.label, self.about.names, raw, part.before, refused)
            self.spool.write("refused", number, aside)
        ready = found.rows
        if self.reading.kind == "events":
            ready = ready.with_columns(digest=event_hash(ready))
            self.reading.compare(number, ready)
            if not ready["event_id"].count():
                self.spool.drop("raw", number)  # only a repeated id can still have it refused
        self.spool.write("ready", number, ready)

    def _keyed(self, rows: Rows) -> pl.DataFrame:
        """Add what the folders' names say, where the file itself does not say it."""
        keys = self.found.keys(self.found.files[rows.place]) if self.found.files else {}
        return rows.frame.with_columns(
            pl.lit(value, pl.String).alias(key)
            for key, value in keys.items()
            if key not in rows.frame.columns
        )

    def _told(self, place: int, make: Callable[[], T]) -> T:
        try:
            return make()
        except ContractError as error:
            raise ContractError(f"{self.about.names[place]}: {error}") from error
