"""Fine-tuning an encoder on labels, and on pairs of texts that share one: tasks of the one gradient loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nlp import batching, layerwise
from nlp.classifier_config import ClassifierConfig
from nlp.label_sets import Matrix
from nlp.light_learners import Floats
from recsys import training, watch
from recsys.optimizing import Group

if TYPE_CHECKING:
    import torch

    from nlp.label_network import LabelNetwork

WINDOW = 16  # batches whose texts are sorted by length together: little padding, still by chance

Rows = npt.NDArray[np.intp]
Tokens = Sequence[list[int]]


class Examples:
    """Tokenised texts with their labels, and what the network says of some of them."""

    def __init__(self, network: "LabelNetwork", tokens: Tokens, truth: Matrix, pad: int) -> None:
        import torch

        self.network = network
        self.tokens = tokens
        self.truth = torch.from_numpy(truth.astype(np.float32))  # (texts, labels)
        self.lengths = np.array([len(text) for text in tokens])
        self._pad = pad

    def vectors(self, rows: Rows, times: int = 1) -> "torch.Tensor":
        """Return the unit vectors of rows, all of them `times` over, each time under other dropout."""
        import torch

        place = self.network.weight.device
        ids, mask = batching.padded([self.tokens[row] for row in rows], self._pad)
        both = [torch.from_numpy(part).to(place).repeat(times, 1) for part in (ids, mask)]
        return self.network(*both)  # type: ignore[no-any-return]

    def labels(self, rows: Rows) -> "torch.Tensor":
        """Return the (rows, labels) truth, on the network's device."""
        return self.truth[rows].to(self.network.weight.device)

    def encoded(self, rows: Rows) -> "torch.Tensor":
        """Return the unit vectors of rows without dropout or gradient, in their order."""
        import torch

        out = torch.empty(len(rows), self.network.weight.shape[1], device=self.network.weight.device)
        with torch.no_grad():
            for places in batching.by_length(self.lengths[rows], 2048, 64):
                out[torch.from_numpy(places)] = self.vectors(rows[places])
        return out


@dataclass(frozen=True)
class Learning:
    """The network as it is between two epochs, asked as a trained member is (`scorers.Scorer`)."""

    network: "LabelNetwork"
    tokenize: Callable[[Sequence[str]], Tokens]
    pad: int

    def logits(self, texts: Sequence[str]) -> Floats:
        """Return (texts, labels)."""
        tokens = self.tokenize(texts)
        examples = Examples(self.network, tokens, np.zeros((len(tokens), 1), np.bool_), self.pad)
        found: Floats = self.network.logits(examples.encoded(np.arange(len(tokens)))).cpu().numpy()
        return found


def fit(
    examples: Examples,
    config: ClassifierConfig,
    learned: Rows,
    held: Rows,
    judge: Callable[[], float] | None = None,
) -> training.Trained:
    """Fit the network on the rows `learned`; with `patience` it stops by how many of `held` it gets right.

    Without `held` rows, an epoch that is to be validated is so by the `judge`.
    """
    network = examples.network
    _drop(network, config.dropout)
    network.to(watch.device()).eval()
    network.begin_at(examples.encoded(learned), examples.labels(learned))
    pairs = config.method == "fewshot"
    deal = paired(examples.truth.numpy() > 0, learned) if pairs else (lambda rows, _: rows)
    key = training.fingerprint(np.concatenate(examples.tokens), examples.truth.numpy(), learned, held)
    task = training.Task(
        module=network,
        batches=batches(examples.lengths, learned, config.batch_size, deal),
        loss=pair_loss(examples, config) if pairs else label_loss(examples, config, learned),
        key=key,
        validate=None if pairs else (lambda: share_right(examples, held)) if len(held) else judge,
        memory=("batch_size", "encoder.max_tokens"),
        bfloat16=True,
        groups=groups(network, config),
        average=config.average_epochs,
    )
    return training.train(task, config)


def batches(
    lengths: npt.NDArray[Any], rows: Rows, size: int, deal: Callable[[Rows, np.random.Generator], Rows]
) -> Callable[[np.random.Generator], Sequence[Rows]]:
    """Return batches of like lengths in an order drawn anew; `deal` may put further rows beside a batch's."""

    def drawn(random: np.random.Generator) -> Sequence[Rows]:
        order = random.permutation(rows)
        made = []
        for start in range(0, len(order), WINDOW * size):
            window = order[start : start + WINDOW * size]
            window = window[np.argsort(lengths[window], kind="stable")]
            made += [window[first : first + size] for first in range(0, len(window), size)]
        return [deal(made[place], random) for place in random.permutation(len(made))]

    return drawn


def paired(truth: Matrix, rows: Rows) -> Callable[[Rows, np.random.Generator], Rows]:
    """Return what puts beside each text one that shares a label with it: itself where there is no other."""
    having = [rows[truth[rows, label]] for label in range(truth.shape[1])]

    def partner(row: int, random: np.random.Generator) -> int:
        labels = np.flatnonzero(truth[row])
        if len(labels) == 0:
            return row
        others = having[int(random.choice(labels))]
        others = others[others != row]
        return int(random.choice(others)) if len(others) else row

    def deal(batch: Rows, random: np.random.Generator) -> Rows:
        return np.concatenate([batch, [partner(int(row), random) for row in batch]]).astype(np.intp)

    return deal


def label_loss(
    examples: Examples, config: ClassifierConfig, learned: Rows
) -> Callable[[Rows, np.random.Generator], "torch.Tensor"]:
    """Cross-entropy, and what the settings put beside it: contrastive, R-Drop, mixup, L1."""
    import torch

    from nlp import label_network as losses

    network, many = examples.network, config.many
    importance = torch.from_numpy(weights_of(examples.truth[learned].numpy() > 0, config))
    times = 2 if config.r_drop or config.contrastive else 1

    def loss(rows: Rows, random: np.random.Generator) -> torch.Tensor:
        vectors = examples.vectors(rows, times)
        truth = examples.labels(rows).repeat(times, 1)
        given, aim = vectors, truth
        if config.mixup:
            mixed, other = random.beta(config.mixup, config.mixup), random.permutation(len(vectors))
            given = mixed * vectors + (1 - mixed) * vectors[other]
            aim = mixed * truth + (1 - mixed) * truth[other]
        logits = network.logits(given)
        # A text weighs what its labels do: the mean of them, 1 where it has none.
        share = aim @ importance.to(aim.device)
        weight = torch.where(aim.sum(1) > 0, share / aim.sum(1).clamp(min=1e-6), torch.ones_like(share))
        each = losses.cross_entropy(logits, aim, many, config.label_smoothing)
        total = (each * weight).sum() / weight.sum()
        if config.r_drop:
            clean = network.logits(vectors) if config.mixup else logits
            first, second = clean.chunk(2)
            total = total + config.r_drop * losses.divergence(first, second, many)
        if config.contrastive:
            total = total + config.contrastive * losses.contrastive(vectors, truth, config.temperature)
        return total + config.l1 * network.weight.abs().sum() if config.l1 else total

    return loss


def pair_loss(
    examples: Examples, config: ClassifierConfig
) -> Callable[[Rows, np.random.Generator], "torch.Tensor"]:
    """Only what texts say of each other, as in SetFit (Tunstall et al. 2022), over all pairs of a batch."""
    from nlp import label_network as losses

    def loss(rows: Rows, random: np.random.Generator) -> "torch.Tensor":
        return losses.contrastive(examples.vectors(rows), examples.labels(rows), config.temperature)

    return loss


def weights_of(truth: Matrix, config: ClassifierConfig) -> npt.NDArray[np.float32]:
    """Return the weight of each label: 1, or balanced as scikit-learn does, texts / (labels × its texts)."""
    counts = truth.sum(axis=0)
    weights = np.ones(len(counts))
    if config.class_weights == "balanced":
        weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return weights.astype(np.float32)


def share_right(examples: Examples, rows: Rows) -> float:
    """Return the share of texts that get the right label; of several labels the share of right cells."""
    logits = examples.network.logits(examples.encoded(rows))
    truth = examples.labels(rows)
    if examples.network.many:
        return float(((logits > 0) == (truth > 0)).float().mean())
    return float(truth.gather(1, logits.argmax(1, keepdim=True)).mean())


def groups(network: "LabelNetwork", config: ClassifierConfig) -> list[Group]:
    """Return what learns: the encoder by layer, unless it is frozen, and the labels.

    A pooler that nothing reads learns nothing.
    """
    for name, parameter in network.text.named_parameters():
        parameter.requires_grad_(config.train_body and not name.startswith("body.pooler."))
    made = layerwise.groups(network.text, config.layer_decay)
    if config.method == "fewshot":  # the labels come after, by logistic regression
        network.weight.requires_grad_(False)
        network.bias.requires_grad_(False)
        return made
    head = [p for p in (network.weight, network.bias) if p.requires_grad]
    return [*made, Group(head, config.head_rate, 0.0)]


def _drop(network: "LabelNetwork", share: float | None) -> None:
    import torch

    if share is None:
        return
    for module in network.text.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
