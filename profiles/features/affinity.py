"""What users lean to: decayed, smoothed shares over the values of item attributes."""

import numpy as np
import polars as pl

from profiles.features import Lists, loops
from profiles.features.past import Past


def strongest(name: str, p: Past) -> Lists:
    """Return each user's strongest values of an attribute with their smoothed shares, strongest first.

    share_v = (strength_v + smoothing * g_v) / (sum of strengths + smoothing), g the log's own share: a
    user of whom little is known leans as everybody does. Only values the user met are listed. Shares are
    ordered in single precision; of equals the value met more recently for the first time.
    """
    found, attribute = p.leanings, p.context.attributes[name]
    prior = p.config.smoothing if attribute.share.any() else 0.0
    low, keep = p.context.first_value[name], p.config.affinities
    offsets, values, shares = loops.strongest(
        *found.of(name), found.values, found.sums, prior, attribute.share, low, keep
    )
    return Lists(offsets, pl.Series(values), shares, attribute.values)


def entropy(name: str, p: Past) -> np.ndarray:
    """Return the entropy in bits of each user's decayed weights over an attribute; NaN without any.

    H = log2 T - sum(w log2 w) / T with T the sum of the weights w.
    """
    found, entropies = p.leanings, np.empty(len(p.length))
    loops.entropy(*found.of(name), found.sums, entropies)
    return entropies
