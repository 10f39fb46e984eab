"""Folders that appear whole or not at all, and that cannot change unnoticed.

Snapshots, derived frames and releases are such folders: built beside their place, sealed with the
SHA-256 of every file, made durable, then renamed. Readers check the hashes before they parse anything:
a Parquet file with a flipped bit is read without complaint about one time in ten.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from profiles.schema import ContractError

MANIFEST = "manifest.json"
FORMAT = 2  # raise it when the code makes other content from the same inputs: every key changes with it
SEAL = "seal"  # the manifest's own SHA-256, of everything else in it


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(data: bytes) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def content_key(*parts: object) -> str:
    """Return 16 hex digits that stand for JSON-like content: the same content, the same key."""
    return digest(json.dumps((FORMAT, *parts), sort_keys=True, default=str).encode())[:16]


@dataclass(frozen=True)
class Origin:
    """A sealed folder whose files may stand in a new one too: the same bytes, written once."""

    folder: Path
    digests: Mapping[str, str]  # of the files that were read and found to be as they were sealed
    linked: dict[str, str] = field(default_factory=dict)  # what need not be read again to seal the new one

    @classmethod
    def checked(cls, folder: Path, parts: Collection[str]) -> "Origin":
        """Read all there is of some parts of a folder: files and folders that lie in it.

        Raises ContractError naming the first file that is missing, changed or not in the manifest.
        """
        named = _sealed(folder)["files"]
        digests = {name: recorded for name, recorded in named.items() if Path(name).parts[0] in parts}
        _compare(folder, digests, (path for part in parts for path in _files(folder / part)))
        return cls(folder, digests)

    def link(self, name: str, folder: Path) -> None:
        """Put a file that was checked into a new folder too; copied where the file system cannot link."""
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.hardlink_to(self.folder / name)
        except OSError:
            shutil.copyfile(self.folder / name, path)
        else:
            self.linked[name] = self.digests[name]


@contextmanager
def building(place: Path, about: Mapping[str, Any], origin: Origin | None = None) -> Iterator[Path]:
    """Yield an empty folder; on success seal it with `about` as it is then and rename it to `place`.

    On an error nothing is left. A folder that is already at `place` has the same content by its name
    and stays. What is linked from an `origin` is sealed with the digest it had there.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        yield folder
        _seal(folder, dict(about), origin.linked if origin else {})
        if not place.exists():
            folder.chmod(0o755)
            try:
                folder.rename(place)
            except OSError:  # somebody else was a moment faster
                if not place.exists():
                    raise
            _sync(place.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file in one step: readers see the old bytes or the new ones, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
        _sync(path.parent)
    finally:
        Path(name).unlink(missing_ok=True)


def read(folder: Path) -> dict[str, Any]:
    """Return the manifest of a sealed folder, its files unchecked."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise ContractError(f"{folder}: there is no {MANIFEST}; this is no complete folder") from None
    except ValueError as error:
        raise ContractError(f"{folder / MANIFEST}: not readable as JSON: {error}") from None
    if not isinstance(manifest, dict):
        raise ContractError(f"{folder / MANIFEST}: not readable as a JSON object")
    return manifest


def verify(folder: Path) -> dict[str, Any]:
    """Return the manifest once every file it names has its recorded hash.

    Raises ContractError naming the first file that is missing, changed or not in the manifest, the
    manifest itself included.
    """
    manifest = _sealed(folder)
    _compare(folder, manifest["files"], _files(folder))
    return manifest


def _sealed(folder: Path) -> dict[str, Any]:
    manifest = read(folder)
    if manifest.get(SEAL) != _seal_of(manifest):
        raise ContractError(f"{folder / MANIFEST}: its content is not what was published (seal differs)")
    return manifest


def _compare(folder: Path, named: Mapping[str, str], found: Iterable[Path]) -> None:
    for name, recorded in named.items():
        path = folder / name
        if not path.is_file():
            raise ContractError(f"{path}: missing, though the manifest names it")
        if sha256(path) != recorded:
            raise ContractError(f"{path}: its content is not what was published (SHA-256 differs)")
    for path in found:
        if str(path.relative_to(folder)) not in named:
            raise ContractError(f"{path}: not named in the manifest")


def _seal(folder: Path, about: dict[str, Any], known: Mapping[str, str]) -> None:
    names = [str(path.relative_to(folder)) for path in _files(folder)]
    about["files"] = {name: known.get(name) or sha256(folder / name) for name in names}
    about[SEAL] = _seal_of(json.loads(json.dumps(about, default=str)))
    text = json.dumps(about, indent=2, default=str, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, "utf-8")
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _seal_of(manifest: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != SEAL}
    return digest(json.dumps(rest, sort_keys=True).encode())


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
