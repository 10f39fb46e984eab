"""Trials of a search, a line of JSON each, written once they have ended and read again by the next run."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from profiles.schema import ContractError
from recsys.space import Settings, Value


@dataclass(frozen=True)
class Try:
    """One trial that ended."""

    settings: dict[str, Value]
    state: Literal["done", "pruned", "failed"]
    value: float | None  # of a pruned one what it had reached
    reason: str  # why it failed
    found: Settings  # what it found by itself
    seconds: float
    drawn: Settings  # the settings before they were rounded
    steps: Mapping[int, float]  # what it had reached at each


def leader(tries: Sequence[Try]) -> Try | None:
    """Return the best finished trial, the first of equals."""
    done = [(t.value, t) for t in tries if t.state == "done" and t.value is not None]
    return max(done, key=lambda pair: pair[0])[1] if done else None


def append(path: Path, ended: Try) -> None:
    """Add a trial to the file; it is on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(json.dumps(asdict(ended), ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[Try]:
    """Return the trials of a file, none where there is no file; half a line at its end is cut off.

    Raises ContractError for a line that is not as it was written.
    """
    kept = path.read_bytes() if path.exists() else b""
    whole = kept[: kept.rfind(b"\n") + 1]
    found: list[Try] = []
    try:
        for line in whole.splitlines():
            told = json.loads(line)
            found.append(Try(**{**told, "steps": {int(step): v for step, v in told["steps"].items()}}))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ContractError(
            f"{path}, line {len(found) + 1}: not as it was written: {error}; delete the file to search anew"
        ) from None
    if whole != kept:
        os.truncate(path, len(whole))
    return found
