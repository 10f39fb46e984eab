"""Graph filter: ChebyCF, a low-pass filter of histories on the item graph (Kim et al., SIGIR 2025)."""

from typing import Annotated

import numpy as np
from numpy.polynomial import chebyshev
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from scipy.sparse import csr_matrix, diags, vstack

from recsys.dataset import Dataset
from recsys.recommender import Recommender, RecommenderConfig
from recsys.space import Tuned
from recsys.spectrum import largest

FIT_ROWS = 512  # item rows of the filter that are dense at once
NOISE = 1e-6  # of a row's largest weight: below it only rounding is left


class GraphFilterConfig(RecommenderConfig):
    order: Annotated[PositiveInt, Tuned(2, 24)] = Field(8, description="degree of the Chebyshev polynomial")
    flatness: Annotated[PositiveFloat, Tuned(0.5, 4)] = Field(
        1.5, description="power of the plateau: larger is flatter in the middle"
    )
    factors: Annotated[PositiveInt, Tuned(32, 1024, log=True)] = Field(
        512, description="leading frequencies: passed in full, and filtered exactly"
    )
    low_pass: Annotated[NonNegativeFloat, Tuned(0, 1)] = Field(
        0.2, description="weight of the leading frequencies, passed unfiltered"
    )
    degree_power: Annotated[NonNegativeFloat, Tuned(0, 1)] = Field(
        0.4, description="power of an item's degree, divided out before the filter and put back after it"
    )
    neighbours: PositiveInt = Field(500, description="items kept for each item")
    seed: NonNegativeInt = Field(0, description="of the starting vectors of the singular vectors")


class GraphFilter(Recommender):
    """score = r D^-b [sum over k of c_k T_k(I - 2P) + a V V'] D^b, P = R'R, R = Du^-1/2 X Di^-1/2 (eq. 14).

    The c interpolate a plateau h: in the eigenvalues l of P it is h(l) that weighs a frequency, V are
    the `factors` leading ones, D the item degrees. P is never raised to a power: h is exact on the
    leading frequencies and its least-squares line p l + q on the rest, where it is nearly straight, so
    the filter is p P + V diag(h(l) + a - p l - q) V', an item-item matrix that needs no users. Of each
    of its rows the `neighbours` largest weights are kept, never that of the item itself: an item already
    in the history gets no score from itself. GF-CF (Shen et al., CIKM 2021) is its special case h(l) = l.

    Fit memory: items × factors × 16 bytes, FIT_ROWS × items × 16 bytes. Kept: items × neighbours × 8.
    Cannot rank an item without interactions (NaN), and says nothing to a user without history.
    """

    config_class = GraphFilterConfig
    cost = "factors"
    config: GraphFilterConfig
    state = ("weights",)
    linear = "weights"
    weights: csr_matrix  # (items, items) float32: row j holds what j in a history adds to i

    def _fit(self, train: Dataset) -> None:
        x = train.matrix(self.config.repeats)
        degrees = np.asarray(x.sum(axis=0), np.float64).ravel()
        touched = np.where(degrees > 0, degrees, np.inf)
        users = np.asarray(x.sum(axis=1), np.float64).ravel()
        r = (diags(users**-0.5) @ x @ diags(touched**-0.5)).astype(np.float32).tocsr()
        values, vectors = largest(r, self.config.factors, self.config.seed)
        gains, slope = self._gains(values, exact=len(values) == min(x.shape))
        before = (touched**-self.config.degree_power).astype(np.float32)
        after = np.where(degrees > 0, touched**self.config.degree_power, 0).astype(np.float32)
        rt, scaled = r.T.tocsr(), vectors * gains
        rows = []
        for start in range(0, len(degrees), FIT_ROWS):
            block = scaled[start : start + FIT_ROWS] @ vectors.T
            if slope:
                block += slope * (rt[start : start + FIT_ROWS] @ r).toarray()
            block *= after
            block *= before[start : start + FIT_ROWS, None]
            rows.append(_strongest(block, start, self.config.neighbours))
        self.weights = vstack(rows, format="csr")

    def response(self, values: np.ndarray) -> np.ndarray:
        """Return h of eigenvalues of P between 0 and 1: 0 is the highest frequency, 1 the lowest.

        As published: the plateau, rounded, is taken at the extrema of T_K and interpolated as if it
        stood at the zeros of T_K+1.
        """
        order = self.config.order
        at = np.round(np.cos(np.arange(order, -1, -1) / order * np.pi), 3)
        plateau = np.round(0.5 - 0.5 * np.sign(at) * np.abs(at) ** self.config.flatness, 3)
        zeros = np.cos((np.arange(order, -1, -1) + 0.5) / (order + 1) * np.pi)
        coefficients = chebyshev.chebvander(zeros, order).T @ plateau * 2 / (order + 1)
        coefficients[0] /= 2
        response: np.ndarray = chebyshev.chebval(1 - 2 * values, coefficients)
        return response

    def _gains(self, values: np.ndarray, exact: bool) -> tuple[np.ndarray, np.float32]:
        """Return the weights of the leading frequencies and the slope of the rest; 0 where none is left."""
        slope = offset = 0.0
        if not exact:
            rest = np.linspace(0, values[-1], 256)
            slope, offset = np.polyfit(rest, self.response(rest), 1)
        else:
            offset = float(self.response(np.zeros(1))[0])
        gains = self.response(values) + self.config.low_pass - slope * values - offset
        return gains.astype(np.float32), np.float32(slope)


def _strongest(block: np.ndarray, start: int, keep: int) -> csr_matrix:
    """Keep each row's largest cells of dense rows start…, but the diagonal and what is only rounding."""
    rows, items = block.shape
    diagonal = (np.arange(rows), start + np.arange(rows))
    block[diagonal] = -np.inf
    limit = np.full(rows, -np.inf, np.float32)
    if keep < items:
        limit = np.partition(block, items - keep, axis=1)[:, items - keep]
    block[diagonal] = 0.0
    kept = block >= limit[:, None]
    kept &= np.abs(block) > NOISE * np.abs(block).max(axis=1, keepdims=True)
    row, column = np.nonzero(kept)
    starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    return csr_matrix((block[row, column], column.astype(np.int32), starts), (rows, items))
