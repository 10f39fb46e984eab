"""What a user's list is like, whether it is right or not: formulas over its first places.

A user with truth but without a list counts as an empty list; a list shorter than k as what it holds.
"""

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix, vstack

from recsys.metrics.rankings import Array, Rankings, per_user

BLEND = 0.01  # of a user's own taste, mixed into a list's so that no category is impossible


@per_user("completeness")
def completeness(of: Rankings, k: int) -> Array:
    """|first k| / k, in [0, 1]: how much of the list asked for there is."""
    return of.listed(k) / k


@per_user("novelty")
def novelty(of: Rankings, k: int) -> Array:
    """mean over the first k of -log2 p(i), p(i) = (train users of i + 1) / (train users + 1).

    In bits, in [0, log2(users + 1)]: 0 for what everyone had, the most for what nobody had. The added
    one keeps new items finite. A list shorter than k is averaged over what it holds; no list at all
    shows nothing new: 0. (Self-information: Zhou et al., PNAS 2010; Castells et al., 2015.)
    """
    near = of.judged(k)
    share = (_popularity(of) + 1) / (of.context.users + 1)
    return of.mean(near, -np.log2(share)[near.item])


@per_user("arp")
def arp(of: Rankings, k: int) -> Array:
    """mean over the first k of the item's train users, in [0, users]; 0 for no list.

    Average recommendation popularity: the larger, the more the list shows what everyone knows
    (Yin et al., VLDB 2012; Abdollahpouri et al., FLAIRS 2019).
    """
    near = of.judged(k)
    return of.mean(near, _popularity(of)[near.item])


@per_user("tail_share")
def tail_share(of: Rankings, k: int) -> Array:
    """|tail items in the first k| / |first k|, in [0, 1]; 0 for no list (APLT, Abdollahpouri et al. 2019).

    Tail is what `Context.tail` says: the items that share the last 20 % of train's pairs, new ones too.
    """
    near = of.judged(k)
    return of.mean(near, _tail(of)[near.item].astype(np.float64))


@per_user("aclt")
def aclt(of: Rankings, k: int) -> Array:
    """|tail items in the first k|, in [0, k] (average coverage of long tail, Abdollahpouri et al. 2019)."""
    near = of.judged(k)
    return of.total(near, _tail(of)[near.item].astype(np.float64))


@per_user("serendipity")
def serendipity(of: Rankings, k: int) -> Array:
    """1 / k times the sum over hits@k of max(0, (place by popularity - rank) / |catalogue|); in [0, 1).

    A hit counts by how much higher it stands than popularity would have put it; equally popular items
    share the best place of theirs. (Ge et al., RecSys 2010; as RecTools' with |catalogue| places.)
    """
    known = of.context.items.unique(maintain_order=True).rename("item_id").to_frame()
    places = (
        known.join(of.context.popularity, on="item_id", how="left")
        .with_columns(pl.col("count").fill_null(0))
        .with_columns(place=pl.col("count").rank("min", descending=True).cast(pl.Float64))
    )
    place = of.by_code(places["item_id"], places["place"].to_numpy(), float(len(known)))
    unlooked = np.maximum(0, place[of.truth_items[of.pair]] - of.rank) / max(len(known), 1)
    return of.hits(k, unlooked) / k


@per_user("diversity")
def diversity(of: Rankings, k: int) -> Array:
    """mean over pairs of the first k of 1 - cos(categories of i, categories of j), in [0, 1].

    Intra-list diversity (Ziegler et al., WWW 2005; Vargas & Castells, RecSys 2011). Items without a category
    say nothing and are left out; fewer than two others are not diverse: 0.
    """
    labels = _labels(of)
    count = np.asarray(labels.sum(axis=1)).ravel()
    unit = csr_matrix(labels.multiply(1 / np.sqrt(np.maximum(count, 1))[:, None]))
    lists = _held(of, k, len(count))
    told = lists @ (count > 0).astype(np.float64)
    # sum over i, j of v_i v_j = |sum over i of v_i|²: no pair is looked at
    alike = np.asarray((lists @ unit).power(2).sum(axis=1)).ravel() - told
    pairs = told * (told - 1)
    mean = np.divide(alike, pairs, out=np.ones(len(of)), where=pairs > 0)
    apart: Array = np.clip(1 - mean, 0, 1)
    return apart


@per_user("calibration")
def calibration(of: Rankings, k: int) -> Array:
    """KL(p ‖ q') = sum over categories c of p(c) ln(p(c) / q'(c)), q' = 0.99 q + 0.01 p; in [0, ln 100].

    p is the mean over the items of a user's history, q over the first k, each item's one vote split
    among its categories; 0 is a list that follows the user's tastes in proportion, no list is ln 100
    (Steck, RecSys 2018, eq. 2 to 7). Users without a category in their history are left out.
    """
    votes = _shares(_labels(of))
    users = pl.DataFrame({"user_id": of.users}).with_row_index("user")
    past = of.context.past().join(users, on="user_id")
    user, code = past["user"].to_numpy(), of.codes(past["item_id"])
    inside = code < votes.shape[0]  # later codes are items without categories
    done = (np.ones(inside.sum()), (user[inside], code[inside]))
    p = _shares(csr_matrix(done, (len(of.users), votes.shape[0])) @ votes)
    q = _shares(_held(of, k, votes.shape[0]) @ votes)
    whole = vstack([p] * len(of.sources), format="csr")
    cell, category = whole.nonzero()
    own, shown = (np.asarray(shares[cell, category]).ravel() for shares in (whole, q))
    terms = own * np.log(own / ((1 - BLEND) * shown + BLEND * own))
    distance = np.maximum(np.bincount(cell, terms, minlength=len(of)), 0)
    distance[np.diff(whole.indptr) == 0] = np.nan
    return distance


def _popularity(of: Rankings) -> Array:
    """Return train's users of every item, by code."""
    known = of.context.popularity
    counts = known["count"].cast(pl.Float64).to_numpy()
    return of.by_code(known["item_id"].cast(pl.String), counts, 0.0)


def _tail(of: Rankings) -> np.ndarray:
    """Return whether an item is in the tail, by code; what nobody knows is."""
    tail = of.context.tail()
    return of.by_code(tail["item_id"], tail["tail"].to_numpy(), True)


def _labels(of: Rankings) -> csr_matrix:
    """Return which categories each item has, by code: (items, categories) of ones."""
    labelled = of.context.labelled()
    codes = of.codes(labelled["item_id"])
    columns = (labelled["category"].rank("dense") - 1).cast(pl.Int64).to_numpy()
    size = 1 + max(int(part.max()) for part in (codes, of.items, of.truth_items) if len(part))
    return csr_matrix((np.ones(len(codes)), (codes, columns)), (size, 1 + max(columns, default=0)))


def _held(of: Rankings, k: int, size: int) -> csr_matrix:
    """Return which of `size` items each cell's first k hold: (cells, items) of ones."""
    near = of.judged(k)
    return csr_matrix((np.ones(len(near.item)), (near.cell, near.item)), (len(of), size))


def _shares(votes: csr_matrix) -> csr_matrix:
    """Divide every row by its sum."""
    total = np.asarray(votes.sum(axis=1))
    return csr_matrix(votes.multiply(1 / np.where(total > 0, total, 1)))
