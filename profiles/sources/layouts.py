"""Well-known public files whose names say how to read them, in one explicit dictionary.

A file of one of these names is read this way unless its source gives a `format`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from profiles.schema import ContractError
from profiles.sources.limits import Limits
from profiles.sources.unpacking import Piece, Unpacked, pieces


@dataclass(frozen=True)
class Layout:
    """How a file without a header is laid out: nothing is quoted, a row is a line."""

    of: str  # the data set, for messages
    separator: str
    columns: tuple[str, ...]
    flags: tuple[str, ...] = ()  # trailing 0/1 columns: the names of those set become `genres`, "A|B"
    encodings: tuple[str, ...] = ("utf-8", "latin-1")  # the first that fits; latin-1 fits anything


RATING = ("user_id", "movie_id", "rating", "timestamp")
MOVIE = ("movie_id", "title", "genres")
GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *(
        "Fantasy",
        "Film-Noir",
        "Horror",
        "Musical",
        "Mystery",
        "Romance",
        "Sci-Fi",
        "Thriller",
        "War",
        "Western",
    ),
)

LAYOUTS: Mapping[str, Layout] = {
    "ratings.dat": Layout("MovieLens 1M and 10M", "::", RATING),
    "movies.dat": Layout("MovieLens 1M and 10M", "::", MOVIE),
    "users.dat": Layout("MovieLens 1M", "::", ("user_id", "gender", "age", "occupation", "zip")),
    "u.data": Layout("MovieLens 100K", "\t", RATING),
    "u.user": Layout("MovieLens 100K", "|", ("user_id", "age", "gender", "occupation", "zip_code")),
    "u.item": Layout(
        "MovieLens 100K",
        "|",
        ("movie_id", "title", "release_date", "video_release_date", "imdb_url"),
        flags=GENRES,
    ),
}

# CSV headers (MovieLens 20M and later) that get our column names beside their own.
HEADERS: Mapping[tuple[str, ...], Mapping[str, str]] = {
    ("userId", "movieId", "rating", "timestamp"): {"user_id": "userId", "movie_id": "movieId"},
    ("userId", "movieId", "tag", "timestamp"): {"user_id": "userId", "movie_id": "movieId"},
    ("movieId", "title", "genres"): {"movie_id": "movieId"},
}


def read_layout(file: Unpacked, again: Unpacked, layout: Layout, limits: Limits) -> Iterator[pl.DataFrame]:
    """Yield the rows of a file by its layout; every column is a string, an empty field is null.

    The whole file is held against the encodings first (`file`), then read (`again`).
    """
    encoding = _encoding(file, layout, limits)
    yield pl.DataFrame(schema=dict.fromkeys(_names(layout), pl.String))
    for piece in pieces(again, False, limits):
        yield _parse(again, piece, piece.data.decode(encoding), layout)


def _names(layout: Layout) -> tuple[str, ...]:
    return (*layout.columns, "genres") if layout.flags else layout.columns


def _parse(file: Unpacked, piece: Piece, text: str, layout: Layout) -> pl.DataFrame:
    lines = pl.Series(text.removesuffix("\n").split("\n")).str.strip_suffix("\r")
    fields = lines.str.split(layout.separator)
    width = len(layout.columns) + len(layout.flags)
    odd = (fields.list.len() != width).arg_true()
    if odd.len():
        raise ContractError(
            f"{file.path} is read as the file of {layout.of} with that name, {width} columns separated by "
            f"{layout.separator!r}, but line {piece.line + odd[0]} has {fields[odd[0]].len()}; if it is "
            'another file, give format = "csv" or rename it'
        )
    frame = pl.DataFrame({name: fields.list.get(place) for place, name in enumerate(layout.columns)})
    frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()))
    if not layout.flags:
        return frame
    flags = fields.list.slice(len(layout.columns))
    set_names = [
        pl.when(flags.list.get(place) == "1").then(pl.lit(name)) for place, name in enumerate(layout.flags)
    ]
    return frame.with_columns(genres=pl.concat_str(set_names, separator="|", ignore_nulls=True))


def name_header(frame: pl.DataFrame) -> pl.DataFrame:
    """Give a CSV with a well-known header our names as well."""
    return frame.with_columns(
        pl.col(old).alias(new) for new, old in HEADERS.get(tuple(frame.columns), {}).items()
    )


def _encoding(file: Unpacked, layout: Layout, limits: Limits) -> str:
    """Return the first encoding that the whole file is in."""
    fits = dict.fromkeys(layout.encodings)
    for piece in pieces(file, False, limits):
        for encoding in [*fits]:
            try:
                piece.data.decode(encoding)
            except UnicodeDecodeError:
                del fits[encoding]
        if not fits:
            raise ContractError(f"{file.path} is not text in {' or '.join(layout.encodings)}")
    return next(iter(fits))
