"""Labels that stand where their texts are, and move no further than the texts ask for.

Texts of one label differ by what they are about; in those directions a new text should count for little, but
how a label may be worded is known from the untuned encoder alone. So the vectors are whitened softly by how
texts differ within labels (WCCN: Hatch, Kajarekar and Stolcke, Interspeech 2006), each label begins at its
mean there, drawn to the vector of its own name (dataless classification: Chang et al., AAAI 2008), and
logistic regression is held near that, its prior's mean not at 0 but there (Chelba and Acero, EMNLP 2004).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import logsumexp

from nlp.label_sets import Matrix
from nlp.light_learners import SURE, Floats, Linear

Doubles = npt.NDArray[np.float64]
ROUNDS = 100  # of L-BFGS; it begins near its end


def fit_prototypes(
    features: Floats,
    truth: Matrix,
    named: Floats,
    within: float,
    names: float,
    scale: float,
    penalty: float,
    balanced: bool,
) -> Linear:
    """Minimise Σ loss + penalty / 2 ‖V - scale P‖² over V, (labels, d), with logits V B x; one label a text.

    B is `whitening`, P are `prototypes`; `named` holds the labels' own names as vectors, (labels, d).
    `balanced` weighs a text by texts / (labels × its label's). A label without texts is not given.
    """
    apart = whitening(features, truth, within)
    there = features @ apart
    begin = scale * prototypes(there, truth, named @ apart, names)
    counts = truth.sum(axis=0)
    weight = (len(truth) / (np.count_nonzero(counts) * counts[truth.argmax(axis=1)])) if balanced else 1.0

    def loss(flat: Doubles) -> tuple[float, Doubles]:
        moved = flat.reshape(begin.shape)
        logits = there @ moved.T
        logits -= logsumexp(logits, axis=1, keepdims=True)
        slope = (np.exp(logits) - truth) * np.reshape(weight, (-1, 1))
        away = moved - begin
        each = -logits[truth] * weight
        return each.sum() + penalty / 2 * (away**2).sum(), (slope.T @ there + penalty * away).ravel()

    found = minimize(loss, begin.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": ROUNDS})
    weights = found.x.reshape(begin.shape) @ apart.T
    return Linear(weights.astype(np.float32), np.where(counts > 0, 0, -SURE).astype(np.float32))


def whitening(features: Floats, truth: Matrix, within: float) -> Doubles:
    """Return the symmetric B = c (I + S / (within s))^-½, (d, d), of vectors x to B x.

    S is the covariance of texts about their label's mean and s the mean of its eigenvalues; c makes the
    mean length of the vectors 1 there. Little `within` whitens wholly, much leaves all as it is.
    """
    x = features.astype(np.float64)
    centres = (truth.T @ x) / np.maximum(truth.sum(axis=0), 1)[:, None]
    apart = x - centres[truth.argmax(axis=1)]
    spread, directions = np.linalg.eigh(apart.T @ apart / len(x))
    spread = np.maximum(spread, 0)
    mean = spread.mean() or 1.0  # one text a label: nothing is known of how they differ
    found: Doubles = (directions / np.sqrt(1 + spread / (within * mean))) @ directions.T
    return found / (np.linalg.norm(x @ found, axis=1).mean() or 1.0)


def prototypes(vectors: Doubles, truth: Matrix, named: Doubles, names: float) -> Doubles:
    """Return the unit vector of each label: the mean of its texts' directions + names × that of its name."""
    means = _unit(truth.T.astype(np.float64) @ _unit(vectors))
    return _unit(means + names * _unit(named))


def words_of(labels: Sequence[str]) -> list[str]:
    """Return the names of labels as one would say them: `card_arrival` is "card arrival"."""
    return [label.replace("_", " ") for label in labels]


def _unit(vectors: Doubles) -> Doubles:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Doubles = vectors / np.where(lengths > 0, lengths, 1)
    return found
