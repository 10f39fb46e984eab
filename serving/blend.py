"""The blend: what several rankings of the same queries say, as one.

Level 0 is weighted reciprocal rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009): score(u, i) = sum
over sources s of w_s / (c + rank_s(u, i)), over the items each source lists. The constant c is a
setting: the usual 60 is made for lists of thousands, and over lists of ten it lets a source of weight
0.1 overturn two of weight 1. Level 1, where c is none, is a convex combination of normalised scores:
w_s times `normalised`. The summands are the contributions: they explain the score because they are it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from profiles.schema import ContractError
from recsys.dataset import Vocabulary
from recsys.ranking import Ranked
from recsys.schema import RECOMMENDATIONS
from serving.schema import CONTRIBUTIONS

FALLBACK = 1e-6  # of the smallest weight: a filled-in item stands under every blended one, explained alike
LAST = 1e-3  # normalised score of the last item of a list: a listed item stands above one that is not
WORDS = "words"  # the words of a request or, of a user who only wrote, their own


class BlendConfig(BaseModel):
    """How rankings become one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    constant: PositiveFloat = Field(5.0, description="c of w / (c + rank): smaller trusts first places more")
    depth: PositiveInt = Field(200, description="items taken from each source")
    weights: Literal["fit"] | dict[str, NonNegativeFloat] = Field(
        "fit", description='"fit" chooses them on the validation window; or a table of source = weight'
    )
    fallback: str = Field("popularity", description="source that fills a list the blend leaves short")
    words_weight: PositiveFloat = Field(
        1.0,
        description="weight of the words of a request, or of a user who only wrote, "
        "as a multiple of all other weights together",
    )
    rounds: PositiveInt = Field(20, description="additions in the greedy choice of weights")


@dataclass(frozen=True)
class Blended:
    """One list a query, and where each item's score comes from. Sources in the order of `sources`."""

    sources: tuple[str, ...]
    ranked: Ranked
    parts: np.ndarray  # (n, k, sources) float32, sums over the last axis to the score
    ranks: np.ndarray  # (n, k, sources) int32 rank within the source, 0 where it has not listed the item
    source_scores: np.ndarray  # (n, k, sources) float32, NaN where it has not listed the item

    def taking(self, places: np.ndarray) -> "Blended":
        """Return the lists of some places, in this order."""
        ranked = Ranked(self.ranked.rows[:, places], self.ranked.scores[:, places])
        parts, ranks, scores = (a[:, places] for a in (self.parts, self.ranks, self.source_scores))
        return Blended(self.sources, ranked, parts, ranks, scores)

    def frames(self, ids: Sequence[str], items: Vocabulary) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return RECOMMENDATIONS with source "blend" and their CONTRIBUTIONS."""
        listed = self.ranked.rows >= 0
        query, place = np.nonzero(listed)
        users = pl.Series("user_id", list(ids), dtype=pl.String).gather(query)
        names = items.take(self.ranked.rows[listed])
        recommendations = pl.DataFrame(
            {
                "user_id": users,
                "item_id": names,
                "rank": place + 1,
                "score": self.ranked.scores[listed],
                "source": pl.repeat("blend", len(query), eager=True, dtype=pl.String),
            }
        )
        row, source = np.nonzero(self.ranks[listed] > 0)
        contributions = pl.DataFrame(
            {
                "user_id": users.gather(row),
                "item_id": names.gather(row),
                "source": pl.Series(self.sources, dtype=pl.String).gather(source),
                "source_rank": self.ranks[listed][row, source],
                "source_score": self.source_scores[listed][row, source],
                "contribution": self.parts[listed][row, source],
            }
        )
        return RECOMMENDATIONS.conform(recommendations), CONTRIBUTIONS.conform(contributions)


def normalised(ranked: Ranked) -> np.ndarray:
    """Return the scores of each list from 1 for its first item down to LAST for its last, (n, k) float64.

    A list of equal scores is all 1. Scores of two recommenders so compare, and a refit may change their
    scale; an item that is not listed counts 0, next to the last that is, so lists should be deep.
    """
    scores = ranked.scores.astype(np.float64)
    first, last = scores[:, :1], np.nanmin(scores, axis=1, initial=np.inf, keepdims=True)
    span = first - last
    share = np.divide(scores - last, span, out=np.ones_like(scores), where=span > 0)
    return np.where(ranked.rows >= 0, LAST + (1 - LAST) * share, np.nan)


def _points(rankings: Mapping[str, Ranked], constant: float | None) -> np.ndarray:
    """Return what each listed item gets from its source before weights, sources side by side."""
    if constant is None:
        return np.concatenate([normalised(ranked) for ranked in rankings.values()], axis=1)
    shapes = [ranked.rows.shape for ranked in rankings.values()]
    return np.concatenate(
        [np.broadcast_to(1 / (constant + np.arange(1, k + 1)), (n, k)) for n, k in shapes], axis=1
    )


def fuse(
    rankings: Mapping[str, Ranked],
    weights: Mapping[str, float],
    constant: float | None,
    k: int,
    fallback: tuple[str, Ranked] | None = None,
) -> Blended:
    """Blend the rankings of the same queries into lists of at most k; ties go to the lower item row.

    By ranks with a constant, by normalised scores without one (None). Sources without a weight do not
    take part. `fallback` is a source's name and ranking: its items stand below all others, so that a
    list is as long as it can be.
    """
    if negative := [name for name, weight in weights.items() if weight < 0]:
        raise ContractError(f"blend: the weight of {negative[0]!r} is negative")
    used = [(name, ranked, weights[name]) for name, ranked in rankings.items() if weights.get(name, 0) > 0]
    if fallback is not None:
        name, ranked = fallback
        used.append((f"fallback:{name}", ranked, FALLBACK * min([w for _, _, w in used], default=1.0)))
    if not used:
        raise ContractError("blend: no source has a weight above 0")
    sources = tuple(name for name, _, _ in used)
    n = len(used[0][1].rows)

    rows = np.concatenate([ranked.rows for _, ranked, _ in used], axis=1).astype(np.int64)
    values = np.concatenate([ranked.scores for _, ranked, _ in used], axis=1)
    rank = np.concatenate([np.arange(1, ranked.rows.shape[1] + 1) for _, ranked, _ in used])
    source = np.concatenate([np.full(r.rows.shape[1], s) for s, (_, r, _) in enumerate(used)])
    weight = np.array([w for _, _, w in used])[source]
    points = _points({name: ranked for name, ranked, _ in used}, constant)

    query, place = np.nonzero(rows >= 0)
    width = int(rows.max(initial=0)) + 1
    pairs, cell = np.unique(query * width + rows[query, place], return_inverse=True)
    amount = weight[place] * points[query, place]
    if fallback is not None:  # it fills lists, it has no say in what the others list
        filler = source[place] == len(used) - 1
        listed = np.bincount(cell, ~filler, minlength=len(pairs)) > 0
        amount = np.where(filler & listed[cell], 0.0, amount)
    score = np.bincount(cell, amount, minlength=len(pairs)).astype(np.float32)
    order = np.lexsort((pairs, -score, pairs // width))
    position = np.arange(len(order)) - np.searchsorted((pairs // width)[order], (pairs // width)[order])
    best = order[position < k]
    at = (pairs[best] // width, position[position < k])

    ranked_rows = np.full((n, k), -1, np.int32)
    ranked_scores = np.full((n, k), np.nan, np.float32)
    ranked_rows[at], ranked_scores[at] = pairs[best] % width, score[best]

    slot = np.full(len(pairs), -1)
    slot[best] = position[position < k]
    kept = (slot[cell] >= 0) & (amount > 0)
    to = (query[kept], slot[cell][kept], source[place[kept]])
    shape = (n, k, len(sources))
    parts, ranks = np.zeros(shape, np.float32), np.zeros(shape, np.int32)
    source_scores = np.full(shape, np.nan, np.float32)
    parts[to], ranks[to] = amount[kept], rank[place[kept]]
    source_scores[to] = values[query[kept], place[kept]]
    return Blended(sources, Ranked(ranked_rows, ranked_scores), parts, ranks, source_scores)


def fit_weights(
    trials: Sequence[tuple[Mapping[str, Ranked], Sequence[np.ndarray]]],
    constant: float | None,
    rounds: int,
    k: int = 10,
    users: int = 3000,
    seed: int = 0,
) -> dict[str, float]:
    """Choose weights that raise NDCG@k on validation: greedy additions with replacement (Caruana, ICML 2004).

    Each trial is the rankings by source of the same queries, and the true item rows of each query.
    The first addition is the best single source. All `rounds` additions are made and the best blend on the
    way is taken, so on these queries it is never below that source; a source may pay only in a share that
    later additions can give. At most `users` queries, drawn by `seed`, are used.
    """
    names = list(trials[0][0])
    asked = [(t, q) for t, (_, truth) in enumerate(trials) for q in range(len(truth)) if len(truth[q])]
    if len(asked) > users:
        drawn = np.sort(np.random.default_rng(seed).choice(len(asked), users, replace=False))
        asked = [asked[i] for i in drawn]
    found = []
    for t, (rankings, truth) in enumerate(trials):
        chosen = [q for trial, q in asked if trial == t]
        part = {n: Ranked(rankings[n].rows[chosen], rankings[n].scores[chosen]) for n in names}
        found.append(_cells(part, [truth[q] for q in chosen], names, constant))
    width = max(k, *(gains.shape[1] for gains, _, _ in found))
    gains = np.concatenate([np.pad(g, ((0, 0), (0, width - g.shape[1]), (0, 0))) for g, _, _ in found])
    relevant = np.concatenate([np.pad(r, ((0, 0), (0, width - r.shape[1]))) for _, r, _ in found])
    sizes = np.concatenate([s for _, _, s in found])

    total, best = np.zeros(gains.shape[:2]), -1.0
    counts, taken = np.zeros(len(names), int), np.zeros(len(names), int)
    for picked in range(1, rounds + 1):
        quality = [_ndcg((total + gains[:, :, s]) / picked, relevant, sizes, k) for s in range(len(names))]
        chosen_source = int(np.argmax(quality))
        total += gains[:, :, chosen_source]
        counts[chosen_source] += 1
        if quality[chosen_source] > best + 1e-6:
            best, taken = quality[chosen_source], counts.copy()
    return {name: float(count / taken.sum()) for name, count in zip(names, taken, strict=True) if count}


def _cells(
    rankings: Mapping[str, Ranked], truth: Sequence[np.ndarray], names: Sequence[str], constant: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the points of every listed item (n, candidates, sources), which are true, truth sizes.

    Candidates stand in the order of their rows.
    """
    rows = np.concatenate([rankings[name].rows for name in names], axis=1).astype(np.int64)
    points = _points({name: rankings[name] for name in names}, constant)
    source = np.concatenate([np.full(rankings[name].rows.shape[1], s) for s, name in enumerate(names)])
    query, place = np.nonzero(rows >= 0)
    width = int(max([rows.max(initial=0), *(np.max(t, initial=0) for t in truth)])) + 1
    pairs, cell = np.unique(query * width + rows[query, place], return_inverse=True)
    owner = pairs // width
    position = np.arange(len(pairs)) - np.searchsorted(owner, owner)
    gains = np.zeros((len(rows), int(position.max(initial=0)) + 1, len(names)))
    gains[owner[cell], position[cell], source[place]] = points[query, place]
    wanted = np.array([q * width + int(item) for q, items in enumerate(truth) for item in items], np.int64)
    relevant = np.zeros(gains.shape[:2], bool)
    relevant[owner, position] = np.isin(pairs, wanted)
    return gains, relevant, np.array([len(t) for t in truth], np.int64)


def _ndcg(scores: np.ndarray, relevant: np.ndarray, sizes: np.ndarray, k: int) -> float:
    """Mean binary NDCG@k of candidates (n, candidates >= k), listed as `fuse` lists them.

    A score of 0 is not listed; ties go to the candidate of the lower row, so on the left.
    """
    width = scores.shape[1]
    keys = scores.astype(np.float32).view(np.int32).astype(np.int64) << 32  # no score is below 0
    keys |= width - 1 - np.arange(width)
    best = np.sort(np.partition(keys, width - k, axis=1)[:, width - k :], axis=1)[:, ::-1]
    top = width - 1 - (best & 0xFFFFFFFF)
    hits = np.take_along_axis(relevant & (scores > 0), top, 1)
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)[np.minimum(sizes, k) - 1]
    return float((hits @ discount / ideal).mean())
