"""Where truth stands in the lists: formulas over hits.

|hits@k| counts the true items among the first k, |truth| all true items of the user; truth that no list
could hold has left it before (`recsys.split`).
"""

import numpy as np

from recsys.metrics.rankings import Array, Rankings, per_user


def _discount(rank: np.ndarray) -> Array:
    """1 / log2(rank + 1): what a place counts."""
    counts: Array = 1 / np.log2(rank + 1)
    return counts


@per_user("recall")
def recall(of: Rankings, k: int) -> Array:
    """|hits@k| / |truth|, in [0, min(k, |truth|) / |truth|] (trec_eval; LightGCN, He et al. SIGIR 2020)."""
    return of.hits(k) / of.truth


@per_user("recall_capped")
def recall_capped(of: Rankings, k: int) -> Array:
    """|hits@k| / min(k, |truth|), in [0, 1] (Mult-VAE, Liang et al. WWW 2018, eq. 10)."""
    return of.hits(k) / np.minimum(k, of.truth)


@per_user("precision")
def precision(of: Rankings, k: int) -> Array:
    """|hits@k| / k, in [0, min(k, |truth|) / k]; k even where the list is shorter (trec_eval's P_k)."""
    return of.hits(k) / k


@per_user("r_precision")
def r_precision(of: Rankings, k: int) -> Array:
    """|hits@|truth|| / |truth| of the list cut at k, in [0, min(k / |truth|, 1)] (trec_eval's Rprec)."""
    inside = of.rank <= of.truth[of.cell]
    return of.hits(k, inside.astype(np.float64)) / of.truth


@per_user("ndcg")
def ndcg(of: Rankings, k: int) -> Array:
    """sum over hits@k of 1 / log2(rank + 1), over its best: the sum for ranks 1..min(k, |truth|).

    In [0, 1]; gains are binary (Järvelin & Kekäläinen, TOIS 2002, with the discount 1 / log2(rank + 1)).
    """
    ideal = np.cumsum(_discount(np.arange(1, k + 1)))
    best: Array = ideal[np.minimum(k, of.truth) - 1]
    return of.hits(k, _discount(of.rank)) / best


@per_user("ndcg_graded")
def ndcg_graded(of: Rankings, k: int) -> Array:
    """sum over hits@k of weight / log2(rank + 1), over its best: the truth by falling weight.

    In [0, 1]; `weight` is the truth's, and where it has none this is `ndcg`. Gains are linear as in
    trec_eval and ranx's ndcg, not 2^weight - 1 (Järvelin & Kekäläinen, TOIS 2002).
    """
    user, place, gain = of.falling
    near = place <= k
    best = np.bincount(user[near], gain[near] * _discount(place[near]))
    return of.hits(k, of.gain[of.pair] * _discount(of.rank)) / np.tile(best, len(of.sources))


@per_user("hit_rate")
def hit_rate(of: Rankings, k: int) -> Array:
    """1 if any of the first k is true, else 0 (Deshpande & Karypis, TOIS 2004)."""
    return (of.hits(k) > 0).astype(np.float64)


@per_user("mrr")
def mrr(of: Rankings, k: int) -> Array:
    """1 / rank of the first hit within k, 0 without one; in {0} or [1 / k, 1] (Voorhees, TREC-8 1999)."""
    return of.hits(k, (of.nth == 1) / of.rank)


@per_user("map")
def average_precision(of: Rankings, k: int) -> Array:
    """sum over hits@k of precision@rank, over |truth|; in [0, min(k, |truth|) / |truth|].

    The divisor is |truth| as in trec_eval's map_cut and ranx's map@k. RecBole divides by
    min(k, |truth|) and reads higher wherever |truth| > k.
    """
    return of.hits(k, of.nth / of.rank) / of.truth


@per_user("auc")
def auc(of: Rankings, k: int) -> Array:
    """P(a true item stands above an untrue one) when what is not in the first k is tied below them.

    With h hits at ranks r_1 < r_2 < …, N untrue items in the catalogue, of which f are in the first k:
    [sum_j (N - (r_j - j)) + (|truth| - h) (N - f) / 2] / (|truth| N), in [0, 1]; 0.5 for a list without
    any meaning, or where nothing is untrue (Hanley & McNeil, Radiology 1982, ties counted half).
    """
    h = of.hits(k)
    false = of.listed(k) - h
    untrue = np.maximum(of.context.catalogue_size - of.truth, false)
    above = h * untrue - of.hits(k, (of.rank - of.nth).astype(np.float64))
    below = (of.truth - h) * (untrue - false) / 2
    whole = of.truth * untrue
    share: Array = np.divide(above + below, whole, out=np.full(len(of), 0.5), where=whole > 0)
    return share
