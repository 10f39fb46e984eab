"""Where a source's rows are, and whether they have changed."""

import glob
from dataclasses import dataclass, field
from hashlib import file_digest, sha256
from pathlib import Path
from urllib.parse import unquote

from profiles.schema import ContractError
from profiles.sources.source_config import SourceConfig
from profiles.sources.variables import filled, unset

PARQUET = (".parquet", ".pq")
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Found:
    """A source's files in order; where they are one folder's, each with the keys its folders are named by."""

    files: list[Path]
    notes: list[str] = field(default_factory=list)
    folder: Path | None = None

    def keys(self, file: Path) -> dict[str, str | None]:
        """Return the columns that a file's folders (key=value) stand for."""
        if self.folder is None:
            return {}
        parts = [part.partition("=") for part in file.relative_to(self.folder).parts[:-1]]
        named = {unquote(key): unquote(value) for key, equals, value in parts if key and equals}
        return {key: None if value == NO_VALUE else value for key, value in named.items()}

    def name(self, file: Path) -> str:
        """Return what a file is called, wherever the source lies."""
        return file.name if self.folder is None else str(file.relative_to(self.folder))


def locate(source: SourceConfig, root: Path) -> tuple[list[Path], list[str]]:
    """Return the files of the first path that exists, and a note where an optional one does not.

    A query has no files, and a note that says whom it asks.
    """
    if source.url is not None:
        from profiles.sources.sql_source import masked

        return [], [f"{source.label} is a query of {masked(source.url)}"]
    found = find(source, root)
    return found.files, found.notes


def find(source: SourceConfig, root: Path) -> Found:
    """Find the first path that exists; nothing for a query or an optional source that is missing."""
    if source.url is not None:
        return Found([], [])
    tried: list[str] = []
    missing: set[str] = set()
    for path in source.paths:
        if lacking := unset(path):
            if lacking[0] not in missing:  # told once for all alternatives
                missing.add(lacking[0])
                tried.append(
                    f"{path} names ${{{lacking[0]}}}, which is not set; set it to the folder or file meant"
                )
            continue
        file = root / Path(filled(path)).expanduser()
        if file.is_dir():
            return Found(_parquet_in(file), folder=file)
        if file.exists():
            return Found([file])
        pattern = filled(path, glob.escape)
        matches = glob.glob(pattern, root_dir=root, recursive=True)  # noqa: PTH207 (it may be absolute)
        if files := sorted(root / match for match in matches if (root / match).is_file()):
            return Found(files)
        tried.append(f"there is no file {file}")
    if source.optional:
        return Found([], [f"{source.label} is skipped: {'; '.join(tried)}"])
    raise ContractError("; ".join(tried))


def fingerprint(source: SourceConfig, root: Path) -> str:
    """Return a SHA-256 of the source's settings, its files' names and their content.

    Of a query: of its settings, the password left out, and of its probe's answer or of all its rows.
    """
    if source.url is not None:
        from profiles.sources.sql_source import contents, masked

        plain = source.model_copy(update={"url": masked(source.url)})
        return sha256(f"{plain.model_dump_json()}\n{contents(source, root)}".encode()).hexdigest()
    found = find(source, root)
    digest = sha256(source.model_dump_json().encode())
    for file in found.files:
        for part in (file, *_read_with(file, source.layout)):
            with part.open("rb") as content:
                digest.update(f"\n{found.name(part)}\n{file_digest(content, 'sha256').hexdigest()}".encode())
    return digest.hexdigest()


def _read_with(file: Path, layout: str | None) -> list[Path]:
    """Return the files that a layout reads beside this one."""
    if layout is None:
        return []
    from profiles.sources.presets_layouts import companions

    return companions(file, layout)


def _parquet_in(folder: Path) -> list[Path]:
    """Return the Parquet files under a folder; names that begin with . or _ are a writer's own."""
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in PARQUET
        and file.is_file()
        and not any(part[0] in "._" for part in file.relative_to(folder).parts)
    )
    if not files:
        raise ContractError(
            f"{folder} is a directory; name its files, for example {folder}/*.csv (a folder is read as it "
            "is where Parquet files are in it, and none is)"
        )
    return files
