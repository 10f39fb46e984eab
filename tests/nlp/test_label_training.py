"""Losses of labels against slow versions by hand; batches, pairs and layers of the fit."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from nlp.classifier_config import ClassifierConfig
from nlp.label_network import contrastive, cross_entropy, divergence
from nlp.label_training import batches, groups, paired, weights_of


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def test_cross_entropy_of_one_label_is_torchs_with_smoothing():
    logits, target = drawn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    found = cross_entropy(logits, functional.one_hot(target, 4).float(), False, 0.2)
    expected = functional.cross_entropy(logits, target, label_smoothing=0.2, reduction="none")
    torch.testing.assert_close(found, expected)


def test_cross_entropy_of_several_labels_by_hand():
    logits, truth = drawn(3, 2), torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    found = cross_entropy(logits, truth, True, 0.1)
    for row in range(3):
        total = 0.0
        for column in range(2):
            p = 1 / (1 + math.exp(-float(logits[row, column])))
            aim = 0.95 if truth[row, column] else 0.05
            total -= aim * math.log(p) + (1 - aim) * math.log(1 - p)
        assert float(found[row]) == pytest.approx(total / 2, rel=1e-5)


def test_contrastive_by_hand():
    vectors = functional.normalize(drawn(6, 3), dim=1)
    labels, temperature = [0, 1, 0, 0, 1, 2], 0.3  # of 2 there is one: it has no say
    total, says = 0.0, 0
    for i in range(6):
        others = [j for j in range(6) if j != i]
        partners = [j for j in others if labels[j] == labels[i]]
        if not partners:
            continue
        says += 1
        near = {j: math.exp(float(vectors[i] @ vectors[j]) / temperature) for j in others}
        total -= sum(math.log(near[j] / sum(near.values())) for j in partners) / len(partners)
    truth = functional.one_hot(torch.tensor(labels), 3).float()
    assert float(contrastive(vectors, truth, temperature)) == pytest.approx(total / says, rel=1e-5)
    alone = contrastive(vectors[:3], torch.eye(3), temperature)
    assert float(alone) == 0


@pytest.mark.parametrize("many", [False, True])
def test_divergence_is_half_of_both_kl(many: bool):
    one, other = drawn(4, 3), drawn(4, 3, seed=1)
    if many:
        kinds = [torch.distributions.Bernoulli(logits=x.flatten()) for x in (one, other)]
    else:
        kinds = [torch.distributions.Categorical(logits=x) for x in (one, other)]
    p, q = kinds
    expected = (torch.distributions.kl_divergence(p, q) + torch.distributions.kl_divergence(q, p)) / 2
    torch.testing.assert_close(divergence(one, other, many), expected.mean())
    assert float(divergence(one, one, many)) == 0


def test_batches_hold_every_row_once_and_texts_of_like_length():
    random = np.random.default_rng(0)
    lengths, rows = random.integers(3, 40, size=700), np.arange(0, 700, 2)
    deal = batches(lengths, rows, 8, lambda batch, _: batch)
    first, second = deal(np.random.default_rng(1)), deal(np.random.default_rng(2))
    for made in (first, second):
        np.testing.assert_array_equal(np.sort(np.concatenate(made)), rows)
    assert [b.tolist() for b in first] != [b.tolist() for b in second]
    assert [b.tolist() for b in first] == [b.tolist() for b in deal(np.random.default_rng(1))]
    padding = sum(lengths[b].max() * len(b) for b in first) / lengths[rows].sum()
    assert padding < 1.2  # by chance it is near 1.8


def test_pairs_share_a_label_and_are_two_where_they_can():
    truth = np.zeros((7, 4), bool)
    for row, label in enumerate([0, 1, 0, 1, 0, 2]):
        truth[row, label] = True
    truth[3, 2] = True  # has two; the last row has none
    deal = paired(truth, np.array([0, 1, 2, 3, 5, 6]))  # row 4 is held out
    random = np.random.default_rng(0)
    for _ in range(20):
        batch = deal(np.array([0, 1, 5, 6]), random)
        assert batch[:4].tolist() == [0, 1, 5, 6]
        assert batch[4] == 2
        assert batch[5] == 3
        assert batch[6] == 3
        assert batch[7] == 6


def test_balanced_weights_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    target = np.array([0] * 7 + [1] * 2 + [2])
    found = weights_of(np.eye(4, dtype=bool)[target], ClassifierConfig(class_weights="balanced"))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=target)
    np.testing.assert_allclose(found[:3], expected, rtol=1e-6)
    assert weights_of(np.eye(3, dtype=bool), ClassifierConfig()).tolist() == [1, 1, 1]


def bert() -> SimpleNamespace:
    from transformers import BertConfig, BertModel

    from nlp.folder import Recipe
    from nlp.label_network import LabelNetwork
    from nlp.network import TextNetwork

    shape = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    text = TextNetwork(BertModel(BertConfig(vocab_size=50, **shape)), Recipe(projection=8))
    return LabelNetwork(text, 8, 5, 16.0, many=False)


def test_layers_learn_slower_the_nearer_they_are_to_the_text():
    network = bert()
    made = groups(network, ClassifierConfig(layer_decay=0.5, head_rate=7.0))
    rate, decay = {}, {}
    names = {id(p): name for name, p in network.named_parameters()}
    for group in made:
        for parameter in group.parameters:
            rate[names[id(parameter)]], decay[names[id(parameter)]] = group.rate, group.decay
    assert set(rate) == {n for n, p in network.named_parameters() if p.requires_grad}
    assert not [name for name in rate if "pooler" in name]
    assert rate["weight"] == 7
    assert rate["text.projection.weight"] == 1
    assert rate["text.body.encoder.layer.2.output.dense.weight"] == 1
    assert rate["text.body.encoder.layer.0.output.dense.weight"] == 0.25
    assert rate["text.body.embeddings.word_embeddings.weight"] == 0.125
    assert decay["text.body.encoder.layer.0.output.dense.weight"] == 1
    assert decay["text.body.encoder.layer.0.output.dense.bias"] == 0
    assert decay["text.body.encoder.layer.0.output.LayerNorm.weight"] == 0


def test_a_frozen_body_leaves_the_labels_to_learn():
    network = bert()
    made = groups(network, ClassifierConfig(train_body=False))
    assert [len(group.parameters) for group in made] == [1]
    assert [n for n, p in network.named_parameters() if p.requires_grad] == ["weight"]
