"""Who was erased: salted hashes in store/erased.json, by which sources read again leave their past out."""

import hashlib
import json
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from profiles import manifest
from profiles.schema import TIME, microseconds

ERASED = "store/erased.json"


def remember(folder: Path, users: Sequence[str], moment: datetime) -> None:
    """Keep in a workspace that these users were erased."""
    path = folder / ERASED
    kept = _kept(path)
    for user in users:
        kept["users"][_hash(kept["salt"], user)] = microseconds(moment)
    manifest.write_atomically(path, json.dumps(kept).encode())


def erased(folder: Path, frame: pl.DataFrame) -> pl.Series:
    """Tell which EVENTS or USERS from a source were before their user's erasure."""
    path, none = folder / ERASED, pl.repeat(False, len(frame), dtype=pl.Boolean, eager=True)
    if not path.exists():
        return none
    kept = _kept(path)
    users = frame["user_id"].unique()
    hashes = [_hash(kept["salt"], user) for user in users]
    moments = [kept["users"].get(name) for name in hashes]
    gone = pl.DataFrame({"user_id": users, "erased": pl.Series(moments, dtype=pl.Int64)}).drop_nulls()
    if not len(gone):
        return none
    known = frame.join(gone, on="user_id", how="left", maintain_order="left")
    before = pl.col("erased").is_not_null()
    if "timestamp" in frame.columns:
        before &= pl.col("timestamp") <= pl.col("erased").cast(TIME)
    return known.select(before.fill_null(False)).to_series()


def _kept(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"salt": secrets.token_hex(16), "users": {}}
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def _hash(salt: str, user: str) -> str:
    return hashlib.blake2b(user.encode(), key=bytes.fromhex(salt), digest_size=16).hexdigest()
