"""The index beside a sealed segment: which rows an event id or a user may stand in.

Names are kept as 64-bit hashes, so a row that is found must be read and compared; a name that is not found
is certainly not there. What is sent again, though, is told by the 128 bits of its `twin` and no row is read:
a storm of retries would decode the whole log again and again. The arrays lie in files of their own and are
mapped into memory: a lookup touches a few pages, however many rows there are.
"""

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from profiles.events import event_digest
from profiles.schema import EVENTS
from profiles.store.rows import Log

Array = np.ndarray[Any, np.dtype[Any]]
TWIN = 16  # bytes


class Sidecar(NamedTuple):
    """Arrays over the rows of a segment, each the file NAME.npy."""

    ids: Array  # hash of each event_id, ascending; empty for exposures
    id_rows: Array  # the row it stands in
    twins: Array  # (ids, 16) uint8: what `twin` says of it
    users: Array  # hash of each user once, ascending
    user_starts: Array  # where its entries begin in the next two; one more at the end
    user_rows: Array  # the rows of each user, by time, then by commit
    user_times: Array  # their times, microseconds since 1970

    def write(self, folder: Path) -> None:
        """Write each array."""
        for name, values in self._asdict().items():
            np.save(folder / f"{name}.npy", values, allow_pickle=False)

    def places_of_ids(self, hashes: Array) -> Array:
        """Return where in the first three arrays these hashes stand; they ascend, none is twice."""
        low = np.searchsorted(self.ids, hashes)
        hits = self.ids[np.minimum(low, len(self.ids) - 1)] == hashes
        if not hits.any():  # as for nearly all that are asked for
            return np.zeros(0, np.int64)
        high = np.searchsorted(self.ids, hashes[hits], "right")
        return np.concatenate([np.arange(a, b) for a, b in zip(low[hits], high, strict=True)])

    def rows_of_user(self, key: np.uint64, until: int) -> slice:
        """Return where the rows of a hashed user at or before `until` stand in the last two arrays."""
        user = int(np.searchsorted(self.users, key))
        if user == len(self.users) or self.users[user] != key:
            return slice(0, 0)
        start, end = int(self.user_starts[user]), int(self.user_starts[user + 1])
        return slice(start, start + int(np.searchsorted(self.user_times[start:end], until, "right")))

    def may_hold(self, hashes: Array) -> bool:
        """Whether one of these hashes is a user's."""
        found = np.searchsorted(self.users, hashes)
        return bool((self.users[np.minimum(found, len(self.users) - 1)] == hashes).any())


def opened(files: Iterable[Path]) -> Sidecar:
    """Map the files of a sidecar, in the order of its fields."""
    return Sidecar(*(np.load(file, mmap_mode="r", allow_pickle=False).view(np.ndarray) for file in files))


def indexed(frame: pl.DataFrame, log: Log) -> Sidecar:
    """Return the index of rows in the order in which they stand in their files."""
    named = frame if log == "events" else EVENTS.empty()
    ids = hashed(named["event_id"])
    twins = [*map(twin, named["event_id"], event_digest(named))]
    by_id = np.argsort(ids, kind="stable")
    names = frame["user_id"].unique()
    owners = frame["user_id"].replace_strict(names, pl.Series(hashed(names))).to_numpy()
    times = frame["timestamp"].to_physical().to_numpy()
    by_user = np.lexsort(
        (times, owners)
    )  # stable, and what happened at one moment stands as it was committed
    users, starts = np.unique(owners[by_user], return_index=True)
    return Sidecar(
        ids=ids[by_id],
        id_rows=by_id.astype(np.uint32),
        twins=np.frombuffer(b"".join(twins), np.uint8).reshape(-1, TWIN)[by_id],
        users=users,
        user_starts=np.append(starts, len(frame)).astype(np.uint32),
        user_rows=by_user.astype(np.uint32),
        user_times=times[by_user],
    )


def twin(event_id: str, digest: str) -> bytes:
    """Return the BLAKE2b-128 of an event's id and its content's digest: equal only for the same event."""
    return blake2b(f"{digest}{event_id}".encode(), digest_size=TWIN).digest()


def hashed(names: Iterable[str]) -> Array:
    """Return the BLAKE2b-64 of each name."""
    joined = b"".join([blake2b(name.encode(), digest_size=8).digest() for name in names])
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)
