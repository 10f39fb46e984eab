"""The log of a snapshot in parts: runs of the log, written once and linked into the snapshots that follow.

`log.json` says of each part which numbers of the log it stands for and what came in them. A part stands
for its run as of a moment: it serves another moment too where none of its events is later, and none that
it had to leave out is as early. Parts are taken over from the first on, up to one that does not serve; from
there the log is read again. So late events come with what is new, and an earlier moment finds its own.

What the log says up to a moment is named by a chain of digests, which goes on from the last part's.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from typing import Any

import polars as pl

from profiles import manifest

PARTS = "log.json"
BLOCK = 512  # rows one digest is over
NEVER = 1 << 62  # no moment
LATEST = NEVER - 1  # no event is behind this
SEED = 20  # of the hash of a row

Scan = Callable[[int, int], Iterable[pl.DataFrame]]  # EVENTS with numbers in (first, last], in order


@dataclass(frozen=True)
class Chain:
    """A hash of a row after row that can be gone on with, however the rows are cut into batches.

    digest_n = SHA-256(digest_(n - 1), the 64-bit hashes of the next BLOCK rows); the last block is open.
    """

    digest: str = ""
    rest: str = ""  # hashes of the rows behind the last full block, as hexadecimal digits

    def after(self, rows: pl.DataFrame) -> "Chain":
        """Go on with some rows."""
        content = bytes.fromhex(self.rest) + rows.hash_rows(SEED).to_numpy().astype("<u8").tobytes()
        digest, size = bytes.fromhex(self.digest), 8 * BLOCK
        full = len(content) // size * size
        for at in range(0, full, size):
            digest = sha256(digest + content[at : at + size]).digest()
        return Chain(digest.hex(), content[full:].hex())

    @property
    def name(self) -> str:
        """The hash of all rows so far."""
        return manifest.digest(bytes.fromhex(self.digest + self.rest))


@dataclass(frozen=True)
class Part:
    """What came in the numbers (first, last] of the log. Moments in microseconds since 1970; NEVER: none."""

    first: int
    last: int
    events: int = 0  # at or before the moment
    event_types: Sequence[str] = ()  # of these, sorted
    earliest: int = NEVER  # of all events, later than the moment or not
    latest: int = -NEVER
    known: int = -NEVER  # the latest at or before the moment
    waiting: int = NEVER  # the earliest after it
    chain: Chain = field(default_factory=Chain)  # over the events of this part and all before it

    def serves(self, moment: int) -> bool:
        """Whether it would be written again the same for another moment."""
        return self.known <= moment < self.waiting

    def after(self, batch: pl.DataFrame, moment: int) -> "Part":
        """Go on with events of the log."""
        if not len(batch):
            return self
        time = batch["timestamp"].to_physical()
        earliest, latest = _int(time.min()), _int(time.max())
        there, known, waiting = batch, latest, NEVER
        if latest > moment:
            there = batch.filter(time <= moment)
            known = _int(time.filter(time <= moment).max(), -NEVER)
            waiting = _int(time.filter(time > moment).min(), NEVER)
        return Part(
            self.first,
            self.last,
            self.events + len(there),
            sorted({*self.event_types, *there["event_type"].unique()}),
            min(self.earliest, earliest),
            max(self.latest, latest),
            max(self.known, known),
            min(self.waiting, waiting),
            self.chain.after(there),
        )


@dataclass(frozen=True)
class Log:
    """The log up to a watermark as a snapshot has it; the first `taken` parts another snapshot has too."""

    parts: Sequence[Part]  # one at least
    taken: int = 0

    @classmethod
    def read(cls, scan: Scan, watermark: int, moment: int, known: Sequence[Part]) -> "Log":
        """Look at what is behind the parts of `known` that serve a moment and are not too small to stay.

        A part as small as what comes behind it is written again with that: a log that grew for n days has
        about log2(n) parts, and none of its events was written more often.
        """
        taken = list(takewhile(lambda part: part.serves(moment), known))
        while taken and taken[-1].last - taken[-1].first <= watermark - taken[-1].last:
            taken.pop()
        if taken and taken[-1].last == watermark:
            return cls(taken, len(taken))
        part = Part(taken[-1].last, watermark, chain=taken[-1].chain) if taken else Part(0, watermark)
        for batch in scan(part.first, watermark):
            part = part.after(batch, moment)
        return cls([*taken, part], len(taken))

    @property
    def new(self) -> Sequence[Part]:
        """The parts that are to be written."""
        return self.parts[self.taken :]

    @property
    def name(self) -> str:
        """The hash of the events at or before the moment, in their order."""
        return self.parts[-1].chain.name

    @property
    def events(self) -> int:
        """How many these are."""
        return sum(part.events for part in self.parts)

    @property
    def event_types(self) -> list[str]:
        """Their types, sorted."""
        return sorted({name for part in self.parts for name in part.event_types})

    def save(self, folder: Path) -> None:
        """Write `log.json`."""
        kept = {"format": _format(), "parts": [asdict(part) for part in self.parts]}
        (folder / PARTS).write_text(json.dumps(kept, indent=2) + "\n")


def parts_of(folder: Path) -> Sequence[Part]:
    """Return the parts of a snapshot; none where this program would write or hash them otherwise."""
    kept: dict[str, Any] = json.loads((folder / PARTS).read_bytes())
    if kept["format"] != _format():
        return []
    return [Part(**part | {"chain": Chain(**part["chain"])}) for part in kept["parts"]]


def _format() -> list[object]:
    return [manifest.FORMAT, pl.__version__]


def _int(value: Any, none: int = 0) -> int:
    return none if value is None else int(value)
