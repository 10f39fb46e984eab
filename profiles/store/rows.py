"""How frames become rows of a database and come back, and how a batch is judged: the same for every store.

Nothing here knows a database. Times travel as whole microseconds; a catalogue row is one JSON object.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from struct import Struct
from typing import Any, Literal

import orjson
import polars as pl
from polars import selectors as cs

from profiles.events import event_digest
from profiles.schema import EVENTS, EXPOSURES, TIME, ContractError, Frame, microseconds
from profiles.store import CATALOGUES, Kind, Status
from profiles.versions import SINCE, is_versioned

CHUNK = 20_000  # events a transaction, and rows a batch that is read

Log = Literal["events", "exposures"]
LOGS: dict[Log, Frame] = {"events": EVENTS, "exposures": EXPOSURES}
FEW = 256  # events that are faster handled one by one
Row = tuple[Any, ...]

_TIME, _VALUE = map([*EVENTS.columns].index, ("timestamp", "value"))
_FLOAT, _WHOLE = Struct("<d"), Struct("<q")

_STORED = {
    str(dtype): dtype if dtype != TIME else pl.Int64()
    for dtype in (
        *(pl.String(), pl.Boolean(), pl.Float32(), pl.Float64(), TIME, pl.List(pl.String)),
        *(pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64(), pl.UInt8(), pl.UInt16(), pl.UInt32(), pl.UInt64()),
    )
}  # attribute types that survive as JSON; any other is kept as its text, a NaN as null


def encoded(frame: pl.DataFrame) -> list[Row]:
    """Return the rows of a frame that has a timestamp."""
    return frame.with_columns(pl.col("timestamp").to_physical()).rows()


@dataclass(frozen=True)
class Batch:
    """EVENTS as they are stored: the digest of each, and its row."""

    digests: list[str]
    rows: list[Row]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> list[str]:
        """The event_id of each."""
        return [row[0] for row in self.rows]


def batch(events: pl.DataFrame) -> Batch:
    """Return EVENTS as they are stored; a value that is no number becomes null.

    A few rows are hashed one by one, in a tenth of the time that the expressions take to begin.
    """
    events = EVENTS.conform(events)
    if len(events) > FEW:
        events = events.with_columns(pl.col("value").fill_nan(None))
        return Batch(event_digest(events).to_list(), encoded(events))
    few = [_encoded(row) for row in events.rows()]
    return Batch([_digest(row) for row in few], few)


def batches(frames: Sequence[pl.DataFrame]) -> list[Batch | ContractError]:
    """Return small frames as they are stored, or what is wrong with one: much faster than one by one."""
    if not frames:
        return []
    try:
        whole = EVENTS.conform(frames[0] if len(frames) == 1 else pl.concat(frames))
    except (ContractError, pl.exceptions.PolarsError):  # one of them is to blame, or they differ in form
        return [_batch_or_error(frame) for frame in frames]
    rows = [_encoded(row) for row in whole.rows()]
    found: list[Batch | ContractError] = []
    start = 0
    for frame in frames:
        part = rows[start : start + len(frame)]
        start += len(frame)
        found.append(Batch([_digest(row) for row in part], part))
    return found


def _batch_or_error(frame: pl.DataFrame) -> Batch | ContractError:
    try:
        return batch(frame)
    except ContractError as error:
        return error


def _encoded(row: Row) -> Row:
    moment, value = row[_TIME], row[_VALUE]
    if value != value:
        row = (*row[:_VALUE], None, *row[_VALUE + 1 :])
    return (*row[:_TIME], microseconds(moment), *row[_TIME + 1 :])


def _digest(row: Row) -> str:
    """Return what `event_digest` does for a row with its time in microseconds."""
    parts = []
    for name, value in zip(EVENTS.columns, row, strict=True):
        if value is None or name == "event_id":
            continue
        if isinstance(value, float):
            value = _WHOLE.unpack(_FLOAT.pack(value or 0.0))[0]  # its bits; -0.0 is zero
        text = str(value).encode()
        parts.append(b"%s=%d:%s;" % (name.encode(), len(text), text))
    return blake2b(b"".join(parts), digest_size=16).hexdigest()


def decoded(rows: Sequence[Row], frame: Frame, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Return rows of these columns of `frame`, all where it is None; `seq` may be one of them."""
    names = frame.schema.names() if columns is None else list(columns)
    known = {**frame.schema, "seq": pl.Int64()}
    stored = {n: pl.Int64() if known[n] == TIME else known[n] for n in names}
    return pl.DataFrame(rows, schema=stored, orient="row").with_columns(
        pl.col(n).cast(TIME) for n in names if known[n] == TIME
    )


def judged(
    ids: Iterable[str], digests: Iterable[str], held: Mapping[str, str]
) -> tuple[list[Status], list[int]]:
    """Return what becomes of each event, and the places of those that are new.

    `held` gives the digest of each of these ids that the log has; the first of equals in a batch is new.
    """
    known = dict(held)
    statuses: list[Status] = []
    new: list[int] = []
    for place, (event_id, digest) in enumerate(zip(ids, digests, strict=True)):
        before = known.get(event_id)
        if before is None:
            known[event_id] = digest
            new.append(place)
            statuses.append("accepted")
        else:
            statuses.append("duplicate" if before == digest else "conflict")
    return statuses, new


def catalogued(kind: Kind, frame: pl.DataFrame) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return the type each attribute is kept as, and for each id its JSON: a row, or its versions' rows."""
    # A column of nulls alone has no type to remember; the mapping may have left it so.
    frame = CATALOGUES[kind].conform(frame).drop(cs.by_dtype(pl.Null)).with_columns(cs.datetime().cast(TIME))
    key = CATALOGUES[kind].key[0]
    types = {n: str(d) if str(d) in _STORED else "String" for n, d in frame.schema.items()}
    if not is_versioned(frame):
        return types, [(row[key], _body(row, types)) for row in frame.iter_rows(named=True)]
    versions: dict[str, list[str]] = {}
    for row in frame.sort(key, SINCE, nulls_last=False).iter_rows(named=True):
        versions.setdefault(row[key], []).append(_body(row, types))
    return types, [(name, f"[{','.join(bodies)}]") for name, bodies in versions.items()]


def agreed(kind: Kind, types: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """Return the types known so far and these together; refuse an attribute that has another type here."""
    for name, dtype in types.items():
        if name in known and dtype != known[name]:
            raise ContractError(
                f"{kind}: attribute {name!r} is {dtype} here and {known[name]} in the store; "
                "cast it in the column mapping"
            )
    return {**known, **types}


def catalogue(kind: Kind, types: Mapping[str, str], bodies: Sequence[str]) -> pl.DataFrame:
    """Return ITEMS or USERS from what `catalogued` made of them, in the order given."""
    frame = CATALOGUES[kind]
    if not types:
        return frame.empty()
    read = (orjson.loads(body) for body in bodies)
    parsed = [row for found in read for row in (found if isinstance(found, list) else [found])]
    columns = {
        name: pl.Series(name, [row.get(name) for row in parsed], dtype=_STORED[dtype])
        for name, dtype in types.items()
    }
    times = [pl.col(n).cast(TIME) for n, dtype in types.items() if dtype == str(TIME)]
    return frame.conform(pl.DataFrame(columns).with_columns(times))


def _body(row: Mapping[str, object], types: Mapping[str, str]) -> str:
    """Return one catalogue row as JSON: times as microseconds, unknown types as text, nulls left out."""
    plain: dict[str, object] = {}
    for name, value in row.items():
        if isinstance(value, datetime):
            plain[name] = microseconds(value)
        elif value is not None:
            plain[name] = str(value) if types[name] == "String" else value
    return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS).decode()
