"""What all lists of a source do to the catalogue: one number a source.

Every list given counts, with truth or without; numbers to compare between equal sets of users only.
"""

import numpy as np
import polars as pl

from recsys.metrics.rankings import Array, Rankings, per_source


@per_source("coverage")
def coverage(of: Rankings, k: int) -> Array:
    """|catalogue items in the first k of any list| / |catalogue|, in [0, 1] (Ge et al., RecSys 2010)."""
    share: Array = (_shown(of, k) > 0).mean(axis=1)
    return share


@per_source("gini")
def gini(of: Rankings, k: int) -> Array:
    """sum over items, the least shown first, of (2 j - n - 1) x_j / (n sum x): 0 even, 1 - 1/n one item only.

    x_j is in how many lists the j-th of the catalogue's n items stands within k; 0 where nothing is shown
    (Fleder & Hosanagar, Management Science 2009).
    """
    shown = np.sort(_shown(of, k), axis=1)
    n = shown.shape[1]
    weighted = shown @ (2.0 * np.arange(1, n + 1) - n - 1)
    uneven: Array = weighted / np.maximum(n * shown.sum(axis=1), 1)
    return uneven


@per_source("entropy")
def entropy(of: Rankings, k: int) -> Array:
    """-sum over catalogue items of s log2 s, s their share of all places; in bits, in [0, log2 |catalogue|].

    0 where one item, or nothing, is shown (Shannon; Adomavicius & Kwon, TKDE 2012).
    """
    shown = _shown(of, k)
    share = shown / np.maximum(shown.sum(axis=1, keepdims=True), 1)
    logs = np.log2(share, out=np.zeros_like(share), where=share > 0)
    bits: Array = np.abs((share * logs).sum(axis=1))
    return bits


@per_source("exposure_gap")
def exposure_gap(of: Rankings, k: int) -> Array:
    """1/2 sum over groups of |share of the attention - share of the truth|, in [0, 1]; 0 is fair.

    A place gets attention 1 / log2(rank + 1); a group's merit is its share of the true pairs (exposure
    in proportion to merit: Singh & Joachims, KDD 2018, sections 3 and 4.2). Of lists of users with truth.
    Groups are those of the context, else head and tail; what has no group is one of its own.
    """
    label, groups = _groups(of)
    near = of.judged(k)
    source = near.cell // len(of.users)
    place = source * groups + label[near.item]
    attention = np.bincount(place, 1 / np.log2(near.rank + 1), minlength=len(of.sources) * groups)
    attention = attention.reshape(len(of.sources), groups)
    merit = np.bincount(label[of.truth_items], minlength=groups) / len(of.truth_items)
    share = attention / np.maximum(attention.sum(axis=1, keepdims=True), 1e-300)
    gap: Array = np.abs(share - merit).sum(axis=1) / 2
    return gap


def _shown(of: Rankings, k: int) -> Array:
    """Count in how many lists of a source each catalogue item stands within k: (sources, catalogue)."""
    items = of.context.items.unique(maintain_order=True)
    place = of.by_code(items, np.arange(len(items)), -1)
    near = of.near(k)
    column = place[near.item]
    inside = column >= 0
    cell = near.source[inside] * len(items) + column[inside]
    counts = np.bincount(cell, minlength=len(of.sources) * len(items))
    return counts.reshape(len(of.sources), len(items)).astype(np.float64)


def _groups(of: Rankings) -> tuple[np.ndarray, int]:
    """Return each item's group by code, and how many groups there are; the last is of items without one."""
    known = of.context.groups
    if known is None:
        known = of.context.tail().select("item_id", group=pl.col("tail").cast(pl.String))
    number = known["group"].cast(pl.String).rank("dense").cast(pl.Int64)
    rest = int(number.max() or 0)  # type: ignore[arg-type]
    named = (number - 1).fill_null(rest).to_numpy()
    return of.by_code(known["item_id"], named, rest), rest + 1
