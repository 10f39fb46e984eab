"""A source's rows on disk while it is read: parts of bounded size, by number."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import polars as pl


@dataclass(frozen=True)
class Part:
    """Rows of one file that are held in memory together."""

    place: int  # which of the files
    before: int  # rows of the file that come before
    rows: int  # empty lines counted


class Spool:
    """Frames of one source by number and stage, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self) -> None:
        """Make the folder anew."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def write(self, stage: str, number: int, frame: pl.DataFrame) -> None:
        """Keep a frame."""
        with self._place(stage, number).open("wb") as file:
            frame.write_ipc(file, compression="lz4")

    def read(self, stage: str, number: int) -> pl.DataFrame:
        """Return a frame that is kept."""
        return pl.read_ipc(self._place(stage, number).read_bytes())  # polars takes a path for a pattern

    def has(self, stage: str, number: int) -> bool:
        """Whether a frame is kept."""
        return self._place(stage, number).exists()

    def drop(self, stage: str, number: int) -> None:
        """Let go of a frame, if it is kept."""
        self._place(stage, number).unlink(missing_ok=True)

    def _place(self, stage: str, number: int) -> Path:
        return self.folder / f"{stage}-{number:06}.arrow"
