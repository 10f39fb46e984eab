"""Copy a log in PostgreSQL into a folder of files, and fill an empty one from it.

<folder>/tail/events-0.parquet, …      what is not sealed, with `seq`
         tail/exposures-0.parquet, …
         catalogue.parquet             kind, id and JSON of each item and user
         segments/                     as they are
         log.json                      sequence numbers, marks, the list of segments
         manifest.json                 SHA-256 of each file
"""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import orjson
import polars as pl
import sqlalchemy as sa

from profiles import manifest
from profiles.schema import ContractError
from profiles.store import Kind, rows
from profiles.store import postgres_rows as pg
from profiles.store.postgres_server import Server
from profiles.store.postgres_tables import CATALOGUE, LOG, MARKS, REMOVALS, SEGMENTS, TAILS, take_append_lock
from profiles.store.postgres_upkeep import tidy, upkeep
from profiles.store.rows import LOGS, Log
from profiles.store.segments import Segment, Segments, batched

KIND = {"store": "postgresql", "version": 1}
STATE = "log.json"


def backup(server: Server, segments: Segments, folder: Path, patience: timedelta) -> None:
    """Write everything as of one moment; segments stay where they are until it is done."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ContractError(f"{folder}: a backup needs an empty folder, or none yet")
    with upkeep(server) as connection:
        tidy(connection, segments, patience)
        if folder.exists():
            folder.rmdir()
        with manifest.building(folder, KIND) as copy:
            with server.reading() as snapshot:
                held = pg.registered(snapshot)
                _write(snapshot, copy)
            for segment in held:  # a long copy need not keep a transaction open
                Segments(copy).copy(segment, segments)


def restore(server: Server, segments: Segments, folder: Path, patience: timedelta) -> None:
    """Check a backup, then fill the log with it: its segments first, then its rows in one transaction."""
    about = manifest.verify(folder)
    if any(about.get(name) != value for name, value in KIND.items()):
        raise ContractError(f"{folder}: not a backup of a PostgreSQL store of version {KIND['version']}")
    about = orjson.loads((folder / STATE).read_bytes())
    with upkeep(server) as connection:
        with connection.begin():
            _refuse_unless_empty(connection, server)
        segments.sweep([])
        for segment in about["segments"]:
            segments.copy(Segment(**segment), Segments(folder))
        with connection.begin():
            take_append_lock(connection)
            _refuse_unless_empty(connection, server)
            _fill(connection, folder, about)
        tidy(connection, segments, patience)  # what was being taken out when the copy was made


def _write(connection: sa.Connection, copy: Path) -> None:
    """Write what is not in segments."""
    (copy / "tail").mkdir()
    for kind in LOGS:
        for number, frame in enumerate(batched(_tail(connection, kind))):
            frame.write_parquet(copy / "tail" / f"{kind}-{number}.parquet")
    _catalogue(connection).write_parquet(copy / "catalogue.parquet")
    log = pg.log_row(connection)
    state = {
        "log": {name: getattr(log, name) for name in ("events", "exposures", "revision", "unclean")},
        "marks": pg.all_marks(connection),
        "types": {kind: pg.known_types(connection, kind) for kind in get_args(Kind)},
        "segments": [asdict(segment) for segment in pg.registered(connection)],
        "removals": [(number, removal.body) for number, removal in pg.pending(connection).items()],
    }
    (copy / STATE).write_bytes(orjson.dumps(state))


def _tail(connection: sa.Connection, kind: Log) -> Iterator[pl.DataFrame]:
    after = 0
    while len(frame := pg.tail_rows(connection, kind, after, limit=rows.CHUNK)):
        yield frame
        after = frame["seq"][-1]


def _catalogue(connection: sa.Connection) -> pl.DataFrame:
    asked = sa.select(CATALOGUE.c.kind, CATALOGUE.c.id, CATALOGUE.c.body).order_by("kind", "id")
    found = connection.execute(asked).fetchall()
    schema = dict.fromkeys(("kind", "id", "body"), pl.String)
    return pg.all_plain(pl.DataFrame(found, schema=schema, orient="row"))


def _refuse_unless_empty(connection: sa.Connection, server: Server) -> None:
    log = pg.log_row(connection)
    tables = (*TAILS.values(), CATALOGUE, SEGMENTS, MARKS)
    held = (connection.scalar(sa.select(sa.func.count()).select_from(table)) for table in tables)
    if log.events or log.exposures or log.revision or any(held):
        raise ContractError(f"{server.name}: this store holds something; restore into a new one")


def _fill(connection: sa.Connection, folder: Path, about: dict[str, Any]) -> None:
    for path in _parts(folder, "events"):
        frame = pl.read_parquet(path)
        pg.put_events(connection, rows.batch(frame.drop("seq")), frame["seq"].to_list())
    for path in _parts(folder, "exposures"):
        frame = pl.read_parquet(path)
        pg.put_exposures(connection, rows.encoded(frame.drop("seq")), frame["seq"].to_list())
    catalogue = pl.read_parquet(folder / "catalogue.parquet")
    for kind in get_args(Kind):
        own = catalogue.filter(kind=kind)
        pg.put_bodies(connection, kind, dict(zip(own["id"], own["body"], strict=True)))
        pg.put_types(connection, kind, about["types"][kind])
    for name, value in about["marks"].items():
        pg.put_mark(connection, name, value)
    if about["segments"]:
        connection.execute(SEGMENTS.insert(), about["segments"])
    none = dict.fromkeys(LOGS, 0)
    for number, body in about["removals"]:
        connection.execute(REMOVALS.insert().values(revision=number, body=body, **none))
    # What was read of this log before is out of date.
    connection.execute(LOG.update().values({**about["log"], "revision": about["log"]["revision"] + 1}))


def _parts(folder: Path, kind: Log) -> list[Path]:
    return sorted((folder / "tail").glob(f"{kind}-*.parquet"), key=lambda path: int(path.stem.split("-")[1]))
