"""What a source is: one table `[[events]]`, `[[items]]` or `[[users]]` of attune.toml."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from profiles.schema import EVENTS, ITEMS, USERS, Frame
from profiles.sources.casting import TimeUnit
from profiles.sources.files import Format, Reader, bare
from profiles.sources.mapping import Columns, Name

Kind = Literal["events", "items", "users"]
FRAMES: dict[Kind, Frame] = {"events": EVENTS, "items": ITEMS, "users": USERS}


class SourceConfig(BaseModel):
    """One table `[[events]]`, `[[items]]` or `[[users]]` of attune.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(
        None,
        description="part of event ids, so a moved file adds nothing twice; default: stem of the first path",
        min_length=1,
        max_length=200,
    )
    path: Name | Annotated[tuple[Name, ...], Field(min_length=1, max_length=100)] | None = Field(
        None,
        description="a file, or alternatives of which the first that exists is read; may be a glob or a "
        "folder of Parquet files, ${VAR} is expanded, relative paths start at the configuration's folder",
    )
    url: Name | None = Field(
        None,
        description="in place of path: postgresql://, mysql:// or sqlite:// database to ask; ${VAR} is "
        "expanded, which keeps passwords in the environment",
    )
    query: Name | None = Field(None, description="with url: the SELECT whose rows are read")
    probe: Name | None = Field(
        None,
        description="with url: a cheap SELECT whose answer changes whenever the query's rows do, such as "
        "the largest change time; default: all rows are read to see whether they have changed",
    )
    format: Format = Field("auto", description="auto: by the file's name")
    layout: Name | None = Field(
        None, description="how the files of a public data set are laid out; see presets"
    )
    separator: str = Field("", description="in CSV, where it is neither comma nor tab", max_length=1)
    quotes: bool | None = Field(
        None, description="whether double quotes enclose CSV fields; default: yes in csv, no in tsv"
    )
    optional: bool = Field(False, description="whether a missing file is skipped with a note")
    time_unit: TimeUnit = Field(
        "auto",
        description="of times; auto: strings are ISO 8601, numbers are s, ms, us or ns by their median",
    )
    columns: Columns = Field(
        default_factory=dict,
        description="what fills each column of the frame; one left out takes the source's of the same name",
    )
    attributes: tuple[Name, ...] = Field(
        (),
        description="further columns of items or users, kept under their own names and types",
        max_length=1000,
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.url is None):
            raise ValueError("give either path, for files, or url and query, for a database")
        if (self.url is None) != (self.query is None):
            raise ValueError("url and query belong together: the database and the SELECT whose rows are read")
        if self.url is not None and self.name is None:
            raise ValueError("a query needs a name = …; it is part of event ids")
        if self.probe is not None and self.url is None:
            raise ValueError("probe is for a query")
        return self

    @property
    def label(self) -> str:
        """The name, given or taken from the first path."""
        return self.name or bare(Path(self.paths[0])).stem

    @property
    def paths(self) -> tuple[str, ...]:
        """The alternatives, as written; none where a database is asked."""
        if self.path is None:
            return ()
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def reader(self) -> Reader:
        """How the files are written."""
        return Reader(self.format, self.separator, self.quotes, self.layout)
