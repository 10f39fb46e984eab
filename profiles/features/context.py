"""What a profile compares with: the items, their attributes and their standing as of one moment.

Columns such as novelty, popularity taste and smoothed affinities need more than the user's own events.
All of that is here, taken from the log at or before the moment, kept with a release and read by the live
path: a profile is computed against what its batch was computed against.

    context/items.arrow    item_id, events, since, price, and the codes of each attribute's values
            values.arrow   attribute, value, share
            terms.arrow    term and how telling it is
            facts.json     as_of, event types, spending bands
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from scipy import sparse

from profiles.features import FeaturesConfig, Lists, places
from profiles.features.terms import TELLING
from profiles.interactions import InteractionsConfig
from profiles.schema import TIME

ATTRIBUTES = ("category", "tag", "brand", "price_band")  # what affinities are over
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Attribute:
    """The values of one attribute, and which item has which."""

    values: pl.Series  # sorted
    items: sparse.csr_matrix  # (items, values) float64 of ones
    share: np.ndarray  # (values,) of everything weighted in the log; sums to 1, or all 0


@dataclass(frozen=True)
class Context:
    """Items in code order and what the log says of them, as of `as_of` (microseconds since 1970)."""

    as_of: int
    item_ids: pl.Series
    event_types: tuple[str, ...]
    events: np.ndarray  # (items,) events of each item
    since: np.ndarray  # (items,) int64: available from, else first event; NEVER where neither is known
    price: np.ndarray  # (items,) NaN where unknown
    attributes: Mapping[str, Attribute]
    bands: np.ndarray  # inner edges of the spending bands, rising
    telling: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=TELLING))  # terms.TELLING

    @cached_property
    def percentile(self) -> np.ndarray:
        """Popularity of each item among those with events: 0 the least, 1 the most; equal counts share."""
        alive = self.events > 0
        ranks = pl.Series(self.events[alive]).rank("average").to_numpy() - 1
        found = np.full(len(self.events), np.nan)
        found[alive] = ranks / max(1, alive.sum() - 1)
        return found

    @cached_property
    def surprise(self) -> np.ndarray:
        """-log2 of each item's share of all events: the bits of finding it there; NaN without events."""
        share = self.events / max(1, self.events.sum())
        bits = np.full(len(share), np.nan)
        np.log2(share, out=bits, where=share > 0)
        return -bits

    @cached_property
    def about(self) -> np.ndarray:
        """Surprise, percentile, price and since of each item side by side: one look at an item finds them."""
        return np.column_stack([self.surprise, self.percentile, self.price, self.since])

    @cached_property
    def values(self) -> sparse.csr_matrix:
        """Which item has which value of all attributes, side by side: one look at an item finds them all."""
        return sparse.hstack([attribute.items for attribute in self.attributes.values()], format="csr")

    @cached_property
    def first_value(self) -> dict[str, int]:
        """Where the values of each attribute begin among those of all."""
        widths = [len(attribute.values) for attribute in self.attributes.values()]
        return dict(zip(self.attributes, np.cumsum([0, *widths[:-1]]).tolist(), strict=True))

    def rows(self, item_ids: pl.Series) -> np.ndarray:
        """Return the row of each item id, -1 for null and for items the context does not know."""
        return places(item_ids, self.item_ids)

    def kinds(self, event_types: pl.Series) -> np.ndarray:
        """Return the number of each event type, len(event_types) for one the context does not know."""
        numbers = {name: number for number, name in enumerate(self.event_types)}
        found = [numbers.get(name, len(numbers)) for name in event_types.to_list()]
        return np.array(found, np.uint16)


def weights_of(types: Sequence[str], config: InteractionsConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return what an event of each type weighs, and the least value it must have to (NaN: none).

    Behind the types stands one that is not known. It is `interactions.interactions` as tables.
    """
    weight = [config.weights.get(name, 0.0) if config.weights else 1.0 for name in types]
    least = [config.minimum_value.get(name, np.nan) for name in types]
    return np.array([*weight, 0.0 if config.weights else 1.0]), np.array([*least, np.nan])


def attributes_of(items: pl.DataFrame, item_ids: pl.Series, config: FeaturesConfig) -> dict[str, Attribute]:
    """Return the attributes of items in code order, their log shares still 0."""
    known = _in_order(items, item_ids)
    price = known["price"]
    edges = band_edges(price.drop_nulls().to_numpy(), config.price_bands)
    band = pl.Series(np.searchsorted(edges, price.fill_null(0.0).to_numpy(), side="right") + 1)
    named = {
        "category": known["categories"],
        "tag": known["tags"],
        "brand": known["brand"],
        "price_band": pl.select(
            pl.when(price.is_not_null()).then(pl.format("{}", band.cast(pl.String)))
        ).to_series(),
    }
    return {name: _attribute(column) for name, column in named.items()}


def band_edges(values: np.ndarray, bands: int) -> np.ndarray:
    """Return the inner edges that part values above 0 into bands of equal numbers."""
    values = values[values > 0]
    if not len(values):
        return np.zeros(0)
    edges = np.unique(np.quantile(values, np.arange(1, bands) / bands))
    return np.asarray(edges[edges > values.min()])  # where many are the least, the first band holds them


def _attribute(column: pl.Series) -> Attribute:
    lists = (
        column
        if column.dtype == pl.List
        else column.to_frame("v")
        .select(pl.when(pl.col("v").is_not_null()).then(pl.concat_list("v")))
        .to_series()
    )
    exploded = pl.DataFrame({"row": np.arange(len(lists), dtype=np.int64), "value": lists}).explode("value")
    exploded = exploded.drop_nulls("value").unique(maintain_order=True)
    values = exploded["value"].unique().sort()
    codes = exploded["value"].cast(pl.Enum(values)).to_physical().to_numpy()
    ones = np.ones(len(exploded))
    shape = (len(lists), len(values))
    matrix = sparse.csr_matrix((ones, (exploded["row"].to_numpy(), codes)), shape=shape)
    return Attribute(values, matrix, np.zeros(len(values)))


def with_shares(attribute: Attribute, weight: np.ndarray) -> Attribute:
    """Return the attribute with the log's share of each value, from the weight each item has in the log."""
    total = attribute.items.T @ weight
    return Attribute(attribute.values, attribute.items, total / total.sum() if total.sum() else total)


def since_of(items: pl.DataFrame, item_ids: pl.Series, first: np.ndarray) -> np.ndarray:
    """Return when each item began to be there: available from, else its first event."""
    given = _in_order(items, item_ids)["available_from"].cast(TIME).to_physical().fill_null(NEVER).to_numpy()
    return np.where(given == NEVER, first, given)


def priced(items: pl.DataFrame, item_ids: pl.Series) -> pl.Series:
    """Return the price of each item, null where it is unknown."""
    return _in_order(items, item_ids)["price"]


def _in_order(items: pl.DataFrame, item_ids: pl.Series) -> pl.DataFrame:
    """Return what is known of each item, in the order of the ids."""
    return item_ids.alias("item_id").to_frame().join(items, on="item_id", how="left", maintain_order="left")


def save(context: Context, folder: Path) -> None:
    """Write a context into a folder made for it."""
    folder.mkdir()
    columns = {"events": context.events, "since": context.since, "price": context.price}
    frame = pl.DataFrame({"item_id": context.item_ids, **columns})
    shares = []
    for name, attribute in context.attributes.items():
        codes = pl.Series(attribute.items.indices.astype(np.uint32))
        frame = frame.with_columns(Lists(attribute.items.indptr, codes).series().alias(name))
        table = pl.DataFrame({"value": attribute.values.cast(pl.String), "share": attribute.share})
        shares.append(table.select(pl.lit(name).alias("attribute"), "value", "share"))
    frame.write_ipc(folder / "items.arrow")
    pl.concat(shares).write_ipc(folder / "values.arrow")
    context.telling.write_ipc(folder / "terms.arrow")
    facts = {"as_of": context.as_of, "event_types": context.event_types, "bands": context.bands.tolist()}
    (folder / "facts.json").write_text(json.dumps(facts) + "\n")


def load(folder: Path) -> Context:
    """Read what `save` wrote."""
    facts = json.loads((folder / "facts.json").read_bytes())
    frame, values = pl.read_ipc(folder / "items.arrow"), pl.read_ipc(folder / "values.arrow")
    attributes = {}
    for name in ATTRIBUTES:
        own = values.filter(pl.col("attribute") == name)
        codes = frame[name]
        indptr = np.append(0, np.cumsum(codes.list.len().to_numpy()))
        indices = codes.explode(empty_as_null=False).to_numpy()
        matrix = sparse.csr_matrix((np.ones(len(indices)), indices, indptr), shape=(len(frame), len(own)))
        attributes[name] = Attribute(own["value"], matrix, own["share"].to_numpy())
    return Context(
        as_of=facts["as_of"],
        item_ids=frame["item_id"],
        event_types=tuple(facts["event_types"]),
        events=frame["events"].to_numpy(),
        since=frame["since"].to_numpy(),
        price=frame["price"].to_numpy(),
        attributes=attributes,
        bands=np.array(facts["bands"], np.float64),
        telling=pl.read_ipc(folder / "terms.arrow"),
    )
