"""How good predicted labels are: figures with bootstrap intervals, the confusion matrix, reliability.

Everything is a function of weighted rows, so that an interval comes from the same code as its figure:
a resample is a row of weights, how often each text was drawn. With `groups` whole groups (users, entities)
are drawn, as `recsys.significance` does. Averages over labels follow scikit-learn: macro is the mean over
labels that occur in truth or prediction, micro counts all cells together, weighted goes by support.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from nlp.label_sets import LabelSet, Matrix, Probabilities
from profiles.schema import ContractError, Frame, column
from recsys.significance import draws

Array = npt.NDArray[np.float64]
Values = dict[tuple[str, str | None], Array]  # of a metric and a label, one each resample

BINS = 15  # of confidence, for the calibration error, as in Guo et al., ICML 2017

LABEL_METRICS = Frame(
    "LABEL_METRICS",
    {
        "metric": column(pl.String, "accuracy, f1_macro, …; of one label precision, recall, f1, …"),
        "label": column(pl.String, "whose figure it is; null over all", optional=True),
        "value": column(pl.Float64, "the figure; null where it is not defined", optional=True),
        "low": column(pl.Float64, "lower end of its interval", optional=True),
        "high": column(pl.Float64, "upper end of its interval", optional=True),
        "support": column(pl.Int64, "texts that have the label; over all: texts"),
    },
    key=("metric", "label"),
)


@dataclass(frozen=True)
class Judged:
    """Predictions beside the truth, row by row."""

    labels: LabelSet
    truth: Matrix
    probabilities: Probabilities
    threshold: float = 0.5

    @property
    def predicted(self) -> Matrix:
        return self.labels.chosen(self.probabilities, self.threshold)

    def merged(self, wider: Callable[[str], str]) -> "Judged":
        """Return what it says of wider labels, each label's `wider` one: of one label a text, sums of shares.

        A classifier told finer labels than are asked for often knows the wider ones better.
        """
        if self.labels.many:
            raise ContractError("several labels a text have shares that do not add up: none can be merged")
        names = [wider(name) for name in self.labels.names]
        labels = LabelSet.of(names, many=False)
        of = labels.matrix(names)
        return Judged(labels, self.truth @ of, self.probabilities @ of.astype(np.float32), self.threshold)

    def confusion(self) -> npt.NDArray[np.int64]:
        """Return how many texts of each true label (row) were given each label (column)."""
        if self.labels.many:
            raise ContractError("several labels a text have no confusion matrix; see the figures of each")
        return self.truth.T.astype(np.int64) @ self.predicted.astype(np.int64)


def measure(
    judged: Judged,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
    groups: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Return LABEL_METRICS; intervals are null where fewer than two texts, or groups, could be drawn."""
    return _summary(judged, lambda weights: figures(judged, weights), seed, resamples, level, groups)


def gain(
    judged: Judged,
    other: Judged,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
    groups: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Return LABEL_METRICS of `judged` less those of `other`; each resample draws both alike.

    Where an interval leaves out 0, the two differ. Raises ContractError where they judge other texts.
    """
    if judged.labels != other.labels or not np.array_equal(judged.truth, other.truth):
        raise ContractError("two classifiers are compared on the same texts and labels, row by row")

    def difference(weights: Array) -> Values:
        less = figures(other, weights)
        return {name: values - less[name] for name, values in figures(judged, weights).items()}

    return _summary(judged, difference, seed, resamples, level, groups)


def _summary(
    judged: Judged,
    under: Callable[[Array], Values],
    seed: int,
    resamples: int,
    level: float,
    groups: Sequence[str] | None,
) -> pl.DataFrame:
    """Return LABEL_METRICS of what `under` says of rows of weights, over the texts that were judged."""
    count = len(judged.truth)
    if count == 0:
        raise ContractError("there is no text to measure on")
    whose = np.arange(count)
    if groups is not None:
        if len(groups) != count:
            raise ContractError(f"{count} texts cannot lie in {len(groups)} groups, one each")
        whose = np.unique(np.asarray(groups, np.str_), return_inverse=True)[1]
    several = int(whose.max()) + 1
    value = under(np.ones((1, count)))
    drawn = [under(block[:, whose]) for block in draws(several, seed, resamples)]
    support = dict(zip(judged.labels.names, judged.truth.sum(axis=0).tolist(), strict=True))
    tails = [(1 - level) / 2, (1 + level) / 2]
    rows = []
    for (metric, label), (whole,) in value.items():
        sample = np.concatenate([block[metric, label] for block in drawn])
        sample = sample[np.isfinite(sample)]
        bounds = np.quantile(sample, tails).tolist() if several > 1 and len(sample) else [None, None]
        known = whole if np.isfinite(whole) else None
        rows.append((metric, label, known, *bounds, count if label is None else support[label]))
    frame = pl.DataFrame(rows, schema=list(LABEL_METRICS.columns), orient="row")
    return LABEL_METRICS.conform(frame)


def figures(judged: Judged, weights: Array) -> Values:
    """Return each figure under each row of (resamples, texts) weights; NaN where it is not defined."""
    truth, predicted = judged.truth.astype(np.float64), judged.predicted.astype(np.float64)
    total = weights.sum(axis=1)
    support, given, hit = (weights @ cells for cells in (truth, predicted, truth * predicted))
    found: Values = {}
    found["accuracy", None] = weights @ (truth == predicted).all(axis=1) / total
    found["log_loss", None] = weights @ _surprise(judged) / total
    found["calibration_error", None] = _calibration(judged, weights)
    occurs = support + given > 0
    ranked = [_areas(judged.probabilities[:, n], judged.truth[:, n], weights) for n in range(truth.shape[1])]
    by_label = {
        "precision": _ratio(hit, given, occurs),
        "recall": _ratio(hit, support, occurs),
        "f1": _ratio(2 * hit, support + given, occurs),
        "roc_auc": np.stack([roc for roc, _ in ranked], axis=1),
        "pr_auc": np.stack([area for _, area in ranked], axis=1),
    }
    all_hit, all_given, all_support = (cells.sum(axis=1) for cells in (hit, given, support))
    found["precision_micro", None] = _divide(all_hit, all_given)
    found["recall_micro", None] = _divide(all_hit, all_support)
    found["f1_micro", None] = _divide(2 * all_hit, all_given + all_support)
    for name, values in by_label.items():
        defined = np.isfinite(values)
        found[f"{name}_macro", None] = _divide(np.where(defined, values, 0).sum(axis=1), defined.sum(axis=1))
        mass = support * defined
        found[f"{name}_weighted", None] = _divide(
            (np.where(defined, values, 0) * mass).sum(axis=1), mass.sum(axis=1)
        )
        found |= {(name, label): values[:, n] for n, label in enumerate(judged.labels.names)}
    return found


def reliability(judged: Judged) -> pl.DataFrame:
    """Return, of each bin of confidence, its mean confidence, the share that was right, and how many."""
    confidence, right = _confidence(judged)
    frame = pl.DataFrame(
        {"bin": _bin(confidence), "confidence": confidence.astype(np.float64), "right": right}
    )
    return (
        frame.group_by("bin")
        .agg(pl.col("confidence").mean(), pl.col("right").mean(), pl.len().cast(pl.Int64).alias("count"))
        .sort("bin")
    )


def _confidence(judged: Judged) -> tuple[Array, Matrix]:
    """Return what is claimed and whether it was so: of one label the likeliest's, of several every cell's."""
    if judged.labels.many:
        return judged.probabilities.ravel().astype(np.float64), judged.truth.ravel()
    best = judged.probabilities.argmax(axis=1)
    rows = np.arange(len(best))
    return judged.probabilities[rows, best].astype(np.float64), judged.truth[rows, best]


def _bin(confidence: Array) -> npt.NDArray[np.int64]:
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def _calibration(judged: Judged, weights: Array) -> Array:
    """Σ_b |Σ_{i in b} w_i (confidence_i − right_i)| / Σ_i w_i, in bins of equal width."""
    confidence, right = _confidence(judged)
    cells = len(confidence) // len(judged.truth)  # a text
    gaps = np.zeros((len(judged.truth), BINS))
    np.add.at(gaps, (np.arange(len(confidence)) // cells, _bin(confidence)), confidence - right)
    total: Array = np.abs(weights @ gaps).sum(axis=1) / (cells * weights.sum(axis=1))
    return total


def _surprise(judged: Judged) -> Array:
    """Return −log p of what is true, a text; of several labels the mean over them."""
    p = np.clip(judged.probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    if judged.labels.many:
        mean: Array = -np.where(judged.truth, np.log(p), np.log1p(-p)).mean(axis=1)
        return mean
    return -np.log(p[judged.truth])


def _areas(scores: npt.NDArray[Any], positive: npt.NDArray[np.bool_], weights: Array) -> tuple[Array, Array]:
    """Return the area under ROC (ties count half) and the average precision Σ (R_n − R_{n−1}) P_n."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # of each run of equal scores
    drawn = weights[:, order]
    hit = np.cumsum(drawn * positive[order], axis=1)[:, ends]
    missed = np.cumsum(drawn, axis=1)[:, ends] - hit
    before = np.concatenate([np.zeros((len(hit), 1)), hit[:, :-1]], axis=1)
    width = np.diff(missed, axis=1, prepend=0)
    roc = _divide((width * (hit + before)).sum(axis=1) / 2, hit[:, -1] * missed[:, -1])
    precision = hit / np.maximum(hit + missed, 1e-300)
    return roc, _divide(((hit - before) * precision).sum(axis=1), hit[:, -1])


def _divide(a: Array, b: Array) -> Array:
    quotient: Array = np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0)
    return quotient


def _ratio(a: Array, b: Array, occurs: npt.NDArray[np.bool_]) -> Array:
    """Return a / b, 0 where b is 0 though the label occurs, NaN where it does not."""
    return np.where(occurs, np.nan_to_num(_divide(a, b)), np.nan)
