"""What knows items by their content, against slow versions of themselves, and what is new among them."""

from dataclasses import replace

import numpy as np
import pytest

from profiles.schema import ContractError
from recsys.models import RECOMMENDERS
from recsys.recommender import NotApplicableError

REPEATS = ("binary", "sum", "log", "last")


def fit(name, train, **config):
    kind = RECOMMENDERS[name]
    return kind(kind.config_class(**config)).fit(train)


def newest_ages(world) -> np.ndarray:
    """Return the days since each pair's newest interaction at `as_of`, (users, items); inf if none."""
    users = world.log["user_id"].unique().sort().to_list()
    ages = np.full((len(users), len(world.catalogue.items)), np.inf)
    for user, item, when in world.log["user_id", "item_id", "timestamp"].rows():
        cell = users.index(user), world.catalogue.items.row(item)
        ages[cell] = min(ages[cell], (world.as_of - when).total_seconds() / 86_400)
    return ages


# Vectors a user brings


@pytest.mark.parametrize("half_life", [None, 4.0])
@pytest.mark.parametrize("repeats", REPEATS)
def test_content_vectors_by_loops(repeats, half_life, lopsided):
    vectors = lopsided.vectors.copy()
    vectors[[2, 5]] = np.nan
    train = replace(lopsided.train, brought={"images": vectors})
    scores = fit("content_vectors", train, repeats=repeats, half_life_days=half_life).score(
        lopsided.queries()
    )
    x, ages = lopsided.train.matrix(repeats).toarray().astype(float), newest_ages(lopsided)
    for user in range(23):
        liked = np.zeros(6)
        for item in np.flatnonzero(x[user]):
            if not np.isnan(vectors[item]).any():
                fading = 1 if half_life is None else 0.5 ** (ages[user, item] / half_life)
                liked += x[user, item] * fading * vectors[item]
        expected = vectors @ (liked / np.linalg.norm(liked)) if liked.any() else np.full(14, np.nan)
        np.testing.assert_allclose(scores[user], expected, rtol=1e-4, atol=1e-6)


def test_content_vectors_ranks_what_nobody_touched(lopsided):
    vectors = np.full((14, 2), np.nan, np.float32)
    vectors[[0, 12]], vectors[[1, 13]] = [1, 0], [0.6, 0.8]
    model = fit("content_vectors", replace(lopsided.train, brought={"a": vectors}))
    queries = lopsided.ask({"u": ["i00", "i03"], "v": ["i03"]})
    ranked = model.rank(queries, 14, lopsided.catalogue)
    assert ranked.rows[0, :4].tolist() == [12, 1, 13, -1]
    assert ranked.lengths[1] == 0


def test_content_vectors_reads_the_file_it_is_told_to(lopsided):
    one, two = lopsided.vectors, lopsided.vectors[:, ::-1] ** 3
    both = replace(lopsided.train, brought={"one": one, "two": two})
    assert np.array_equal(fit("content_vectors", both, vectors="two").vectors, two, equal_nan=True)
    for name in (None, "three"):
        with pytest.raises(ContractError, match="names none of the files brought: one, two"):
            fit("content_vectors", both, vectors=name)
    with pytest.raises(NotApplicableError, match="nobody brought vectors"):
        fit("content_vectors", lopsided.without_text().train)
    with pytest.raises(NotApplicableError, match="no item of the catalogue has a vector in 'one'"):
        fit("content_vectors", replace(lopsided.train, brought={"one": one * np.nan}))
    timeless = replace(both, timeless=True)
    with pytest.raises(NotApplicableError, match="half_life_days needs times"):
        fit("content_vectors", timeless, vectors="one", half_life_days=2)
