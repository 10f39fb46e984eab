"""How Gowalla's train is cut: shares are exact, and outings, new places and hubs go as the rule says."""

import numpy as np
import pytest

from benchmarks import gowalla_cut
from benchmarks.gowalla_cut import latest, places

USERS, OUTING = 400, 10


@pytest.fixture
def world():
    """Return users, items, birth and vectors: everybody was on two of six outings, ten places each."""
    random = np.random.default_rng(0)
    users, items = [], []
    for user in range(USERS):
        for outing in random.choice(6, 2, replace=False):
            users += [user] * OUTING
            items += list(outing * OUTING + np.arange(OUTING))
    order = random.permutation(len(users))
    users, items = np.array(users)[order], np.array(items)[order]
    return users, items, random.permutation(60), places(users, items, (USERS, 60))


def use(monkeypatch, kin, vogue, new, hub):
    for name, value in {"KIN": kin, "VOGUE": vogue, "NEW": new, "HUB": hub}.items():
        monkeypatch.setattr(gowalla_cut, name, value)


def test_each_user_loses_a_fifth_and_another_seed_takes_others(world):
    users, items, born, unit = world
    out = latest(users, items, born, unit, 0.2, 0)
    assert (np.bincount(users[out], minlength=USERS) == 4).all()
    assert (latest(users, items, born, unit, 0.2, 0) == out).all()
    assert (latest(users, items, born, unit, 0.2, 1) != out).any()


def test_places_of_the_same_people_go_together(world, monkeypatch):
    users, items, born, unit = world

    def alone(out):
        """Return the share of users whose held-out places are of one outing."""
        outings = [set(items[out & (users == user)] // OUTING) for user in range(USERS)]
        return np.mean([len(found) == 1 for found in outings])

    use(monkeypatch, 0.0, 0.0, 0.0, 0.0)
    even = alone(latest(users, items, born, unit, 0.2, 0))  # 2 C(10, 4) / C(20, 4) = .087
    assert even == pytest.approx(0.087, abs=0.05)
    use(monkeypatch, 0.999, 0.0, 0.0, 0.0)
    assert alone(latest(users, items, born, unit, 0.2, 0)) > 0.85


def test_by_newness_alone_the_newest_go(world, monkeypatch):
    users, items, born, unit = world
    use(monkeypatch, 0.0, 0.0, 1e6, 0.0)
    out = latest(users, items, born, unit, 0.2, 0)
    for user in range(0, USERS, 37):
        own = items[users == user]
        wanted = own[np.argsort(-born[own])][:4]
        assert set(items[out & (users == user)]) == set(wanted)


def test_hubs_go_more_often(world, monkeypatch):
    users, items, born, unit = world
    counts = np.bincount(items)
    use(monkeypatch, 0.0, 0.0, 0.0, 1e6)
    out = latest(users, items, born, unit, 0.2, 0)
    for user in range(0, USERS, 37):
        mine = users == user
        assert counts[items[mine & out]].min() >= counts[items[mine & ~out]].max()


def test_a_place_in_vogue_goes_for_everybody(world, monkeypatch):
    users, items, born, unit = world

    def spread():
        out = latest(users, items, born, unit, 0.2, 0)
        return np.std(np.bincount(items[out], minlength=60) / np.bincount(items, minlength=60))

    use(monkeypatch, 0.0, 0.0, 0.0, 0.0)
    even = spread()
    use(monkeypatch, 0.0, 0.9, 0.0, 0.0)
    assert spread() > 5 * even


def test_an_item_nobody_touched_has_no_direction():
    unit = places(np.array([0, 0, 1]), np.array([0, 1, 1]), (2, 3))
    assert unit.shape == (3, 2)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), [1, 1, 0], atol=1e-5)
