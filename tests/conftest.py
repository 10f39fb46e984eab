"""Small worlds with known answers, shared by every test as fixtures (nothing is imported between tests)."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import settings

from profiles.schema import INTERACTIONS, ITEMS, TIME
from recsys.dataset import Catalogue, Dataset, Queries

if TYPE_CHECKING:
    from transformers import BertModel

settings.register_profile("attune", deadline=None, derandomize=True)
settings.load_profile("attune")

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = 86_400_000_000  # microseconds

Row = tuple[str, str, float, float] | tuple[str, str, float, float, str]
Moment = datetime | np.ndarray


LONG = 10_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `reliability` unless ATTUNE_TRIALS asks for many trials."""
    if int(os.environ.get("ATTUNE_TRIALS", "0")) < LONG:
        reason = f"long trials: set ATTUNE_TRIALS to {LONG} or more, or `make reliability`"
        for item in items:
            if item.get_closest_marker("reliability"):
                item.add_marker(pytest.mark.skip(reason=reason))


def moment(days: float) -> datetime:
    """Return the moment so many days after the first of January 2024."""
    return START + timedelta(microseconds=round(days * DAY))


def log(rows: Iterable[Row]) -> pl.DataFrame:
    """Return INTERACTIONS of (user, item, days, weight[, event type]) in the order given."""
    full = [(*row, "view")[:5] for row in rows]
    names = ("user_id", "item_id", "days", "weight", "event_type")
    columns = {name: [row[n] for row in full] for n, name in enumerate(names)}
    days = columns.pop("days")
    times = pl.Series([moment(d) for d in days], dtype=TIME)
    types = {"user_id": pl.String, "item_id": pl.String, "weight": pl.Float32, "event_type": pl.String}
    return INTERACTIONS.conform(pl.DataFrame(columns, types).with_columns(timestamp=times))


def items(
    available: Mapping[str, tuple[float | None, float | None]],
    labels: Mapping[str, Sequence[str]] | None = None,
) -> pl.DataFrame:
    """Return ITEMS, each with the days it may be shown from and until, and its categories."""

    def times(end: int) -> pl.Series:
        days = [span[end] for span in available.values()]
        return pl.Series([None if d is None else moment(d) for d in days], dtype=TIME)

    names = pl.Series(list(available), dtype=pl.String)
    return ITEMS.conform(
        pl.DataFrame(
            {
                "item_id": names,
                "available_from": times(0),
                "available_to": times(1),
                "categories": pl.Series([(labels or {}).get(i) for i in available], dtype=pl.List(pl.String)),
            }
        )
    )


@dataclass(frozen=True)
class World:
    """A log, its catalogue and the text vectors of its items, asked about `days` after the start."""

    log: pl.DataFrame
    catalogue: Catalogue
    as_of: datetime
    vectors: np.ndarray | None = None

    @property
    def train(self) -> Dataset:
        """All of it, to learn from."""
        brought = {} if self.vectors is None else {"brought": self.vectors}
        return Dataset.of(self.log, self.catalogue, self.as_of, self.vectors, brought=brought)

    def queries(self, at: Moment | None = None, vectors: np.ndarray | None = None) -> Queries:
        """Ask about everybody in the log."""
        users = self.log["user_id"].unique().sort().to_list()
        return self.catalogue.queries(users, self.log, self.as_of if at is None else at, vectors=vectors)

    def ask(
        self,
        histories: Mapping[str, Sequence[str]],
        at: Moment | None = None,
        vectors: np.ndarray | None = None,
    ) -> Queries:
        """Ask about users given by what they did, one item a minute, the last just before `as_of`."""
        last = (self.as_of - START) / timedelta(days=1)
        past = log(
            (user, item, last - (len(done) - n) / 1440, 1.0)
            for user, done in histories.items()
            for n, item in enumerate(done)
        )
        return self.catalogue.queries(
            list(histories), past, self.as_of if at is None else at, vectors=vectors
        )

    def without_text(self) -> "World":
        """The same, with nothing written about the items and no vectors of theirs."""
        return replace(self, vectors=None)


def world(
    rows: Iterable[Row], extra: Sequence[str] = (), days: float = 100, seed: int = 0, width: int = 6
) -> World:
    """Return the world of a log; `extra` items nobody touched are in the catalogue from the start.

    Every item has a random text vector of norm 1, but the last of the catalogue, which has none. An item
    of the log has two categories: its id's first letter, and that with its last.
    """
    interactions = log(rows)
    spans: dict[str, tuple[float | None, float | None]] = dict.fromkeys(interactions["item_id"], (None, None))
    labels = {item: [item[:1], item[:1] + item[-1:]] for item in spans}
    available = items(spans | dict.fromkeys(extra, (0.0, None)), labels)
    catalogue = Catalogue.of(available, interactions, moment(days))
    vectors = np.random.default_rng(seed).normal(size=(len(catalogue.items), width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if len(vectors) > 1:
        vectors[-1] = np.nan
    return World(interactions, catalogue, moment(days), vectors)


@pytest.fixture(scope="session")
def at_day() -> Callable[[float], datetime]:
    """`at_day(3.5)` is noon of the fourth of January 2024."""
    return moment


@pytest.fixture(scope="session")
def log_of() -> Callable[[Iterable[Row]], pl.DataFrame]:
    """`log_of([(user, item, days, weight[, event type]), …])` makes INTERACTIONS."""
    return log


@pytest.fixture(scope="session")
def items_of() -> Callable[[Mapping[str, tuple[float | None, float | None]]], pl.DataFrame]:
    """`items_of({item: (available from, available to), …})`, in days, makes ITEMS."""
    return items


@pytest.fixture(scope="session")
def world_of() -> Callable[..., World]:
    """`world_of(rows)` makes a World; see `world`."""
    return world


@pytest.fixture(scope="session")
def lopsided() -> World:
    """More users than items, a long tail, repeats with unequal weights, and items nobody touched.

    23 users, 11 touched items of 14. Nothing in it is symmetric: a transposed matrix, a norm over the
    wrong axis or an item counted as a user gives another answer.
    """
    random = np.random.default_rng(7)
    popularity = 1 / np.arange(1, 12) ** 1.2
    rows: list[Row] = []
    for user in range(23):
        for _ in range(1 + int(random.geometric(0.25))):
            item = int(random.choice(11, p=popularity / popularity.sum()))
            weight = float(random.choice([0.5, 1.0, 2.5]))
            rows.append((f"u{user:02}", f"i{item:02}", float(random.integers(0, 90)), weight))
    return world(rows, extra=["i11", "i12", "i13"])


@pytest.fixture(scope="session")
def crowd() -> World:
    """100 users with histories of their own over 45 items: enough for four blocks, the last not full."""
    random = np.random.default_rng(3)
    rows: list[Row] = [
        (f"u{user:03}", f"i{item:02}", float(random.random() * 90), float(random.choice([1.0, 2.0])))
        for user in range(100)
        for item in (random.zipf(1.4, 3 + user % 9) * 5 + user) % 43
    ]
    return world(rows, extra=["i43", "i44"], width=16)


@pytest.fixture(scope="session")
def two_tastes() -> World:
    """Users a0…a7 take from items p0…p5, b0…b10 from q0…q8; each leaves some of their own untouched."""
    rows: list[Row] = []
    for taste, users, things in (("a", 8, "p0 p1 p2 p3 p4 p5"), ("b", 11, "q0 q1 q2 q3 q4 q5 q6 q7 q8")):
        own = things.split()
        for user in range(users):
            left = {user % len(own), (user + 2) % len(own)}
            rows += [(f"{taste}{user}", item, float(n), 1.0) for n, item in enumerate(own) if n not in left]
    made = world(rows)
    vectors = np.array(
        [[1.0, 0.2 * n, 0.0] if item[0] == "p" else [0.0, 0.2 * n, 1.0] for n, item in _numbered(made)]
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return replace(made, vectors=vectors.astype(np.float32))


def _numbered(made: World) -> list[tuple[int, str]]:
    return [(int(item[1]), item) for item in made.catalogue.items.ids]


@pytest.fixture(scope="session")
def bert_folder() -> Path:
    """The folder of the installed default model."""
    from nlp.encoder import EncoderConfig, locate

    found = locate(EncoderConfig())
    assert isinstance(found, Path)
    return found


def _bert(made: Path, tokenizer: Path, layers: int, dimensions: int, positions: int) -> "BertModel":
    """Return a BERT that knows nothing yet, for its folder `made`, which has the tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    shape = {"hidden_size": dimensions, "num_hidden_layers": layers, "intermediate_size": 2 * dimensions}
    torch.manual_seed(1)
    made.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, made)
    return BertModel(BertConfig(max_position_embeddings=positions, num_attention_heads=2, **shape))


@pytest.fixture
def tiny_bert(tmp_path: Path, bert_folder: Path) -> Path:
    """A BERT of 16 dimensions and 40 positions, saved in half precision."""
    import torch

    made = tmp_path / "tiny"
    _bert(made, bert_folder, 1, 16, 40).to(torch.bfloat16).save_pretrained(made)
    return made


@pytest.fixture(scope="session")
def new_bert(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path) -> Path:
    """A BERT of two layers, 32 dimensions and 64 positions."""
    made = tmp_path_factory.mktemp("models") / "untaught"
    _bert(made, bert_folder, 2, 32, 64).save_pretrained(made)
    return made
