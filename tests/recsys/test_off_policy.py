"""Off-policy estimates against hand-made cases, closed forms, and a shop whose true answer is known."""

import itertools
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from profiles.schema import ContractError
from profiles.simulate import WorldConfig, simulate
from profiles.simulate_policy import Audience, look
from recsys.exploration import ExplorationConfig, explore, probabilities
from recsys.off_policy import estimate, rewards

EXPLORE = ExplorationConfig(epsilon=0.5, tail=3, pool=6)
K = 4


def rows(*answers):
    """Return logged rows of (user, [(propensity, target, reward), …]) answers."""
    found = []
    for number, (user, ranks) in enumerate(answers):
        for rank, (propensity, target, reward) in enumerate(ranks, 1):
            row = {"answer": f"a{number}", "user_id": user, "item_id": f"i{rank}", "rank": rank}
            found.append({**row, "propensity": propensity, "target": target, "reward": reward})
    return pl.DataFrame(found, schema_overrides={"propensity": pl.Float64})


HAND = rows(
    ("u", [(0.5, 1.0, 1.0), (0.25, 0.5, 2.0)]),
    ("v", [(0.5, 0.0, 1.0), (0.5, 0.5, 0.0)]),
    ("w", [(0.25, 0.25, 0.0), (0.5, 0.25, 4.0)]),
)  # weights: 2 2 | 0 1 | 1 .5


@pytest.mark.parametrize(
    ("method", "weighting", "clip", "value"),
    [
        ("ips", "position", None, ((2 * 1 + 2 * 2) + 0 + 0.5 * 4) / 3),
        ("ips", "position", 1.5, ((1.5 * 1 + 1.5 * 2) + 0 + 0.5 * 4) / 3),
        ("snips", "position", None, 2 / 3 + (2 * 2 + 0.5 * 4) / 3.5),
        ("ips", "cascade", None, ((2 * 1 + 4 * 2) + 0 + 0.5 * 4) / 3),
        ("ips", "list", None, ((4 * 1 + 4 * 2) + 0 + 0.5 * 4) / 3),
    ],
)
def test_by_hand(method, weighting, clip, value):
    found = estimate(HAND, method, weighting, clip)
    assert found.value == pytest.approx(value)
    assert (found.answers, found.users) == (3, 3)
    if (method, weighting) == ("ips", "position"):
        weights = [[2, 0, 1], [2, 1, 0.5]] if clip is None else [[1.5, 0, 1], [1.5, 1, 0.5]]
        assert found.effective == pytest.approx(min(sum(w) ** 2 / sum(x * x for x in w) for w in weights))
        assert found.clipped == pytest.approx(0 if clip is None else 2 / 6)


def test_the_policy_that_logged_is_worth_what_it_earned():
    same = HAND.with_columns(target="propensity")
    earned = same["reward"].sum() / 3
    for method, weighting in itertools.product(("ips", "snips"), ("position", "cascade", "list")):
        assert estimate(same, method, weighting).value == pytest.approx(earned)
    actions = same.select("answer", "rank", "item_id", probability=pl.lit(1.0))
    assert estimate(same, "dr", actions=actions).value == pytest.approx(earned)


def test_a_model_of_rewards_by_hand():
    told = {"item_id": ["a", "a", "b", "b"], "rank": [1, 2, 1, 2], "reward": [1.0, 0.4, 0.0, 0.2]}
    ranks, items = rewards(pl.DataFrame(told), shrink=1.0)
    assert ranks == {1: 0.5, 2: pytest.approx(0.3)}
    assert items == {"a": pytest.approx(2.4 / 1.8), "b": pytest.approx(1.2 / 1.8)}


# What cannot be told


def test_without_propensities_nothing_is_told():
    silent = HAND.with_columns(propensity=pl.lit(None, pl.Float64))
    found = estimate(silent)
    assert not found.identifiable
    assert found.reason == "not identifiable: no propensities were logged"
    assert np.isnan(found.value)
    assert estimate(HAND.clear()).reason == "not identifiable: no answers were logged"
    part = pl.col("propensity").replace(0.25, None)
    assert estimate(HAND.with_columns(part), "ips").answers == 1  # of answers logged whole


def test_what_was_never_explored_is_not_told():
    sure = [(f"u{n}", [(1.0, float(n % 2), 1.0), (1.0, 1.0, 0.0)]) for n in range(200)]
    assert "at rank 1 only 50% of what the target would show" in estimate(rows(*sure)).reason
    never = [(f"u{n}", [(1.0, 0.0, 1.0)]) for n in range(5)]
    assert "nothing that the target would show was ever shown" in estimate(rows(*never)).reason


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"propensity": pl.lit(0.0)}, "propensity is a probability, not 0 … 0"),
        ({"target": pl.lit(1.5)}, "target is a probability, not 1.5 … 1.5"),
        ({"reward": pl.lit(np.nan)}, "a reward is no finite number"),
    ],
)
def test_what_is_no_probability_is_refused(change, told):
    with pytest.raises(ContractError, match=told):
        estimate(HAND.with_columns(**change))
    with pytest.raises(ContractError, match="column 'reward' is missing"):
        estimate(HAND.drop("reward"))
    with pytest.raises(ContractError, match="dr needs the actions"):
        estimate(HAND, "dr")


# Exploring


@pytest.mark.parametrize("candidates", [1, 5, 7, 30])
@pytest.mark.parametrize("k", [1, 2, 4, 7])
def test_propensities_are_how_often_an_item_is_shown_there(candidates, k):
    table = probabilities(candidates, k, EXPLORE)
    assert table.sum(axis=1) == pytest.approx(1)
    assert (table.sum(axis=0) <= 1 + 1e-12).all()  # nothing twice in a list
    random, counted, draws = np.random.default_rng(0), np.zeros_like(table), 1000
    for _ in range(draws):
        places, propensities = explore(candidates, k, EXPLORE, random)
        ranks = np.arange(len(places))
        assert len(set(places.tolist())) == len(places) == min(k, candidates)
        assert propensities == pytest.approx(table[ranks, places])
        counted[ranks, places] += 1
    assert counted / draws == pytest.approx(table, abs=4.5 * 0.5 / draws**0.5)
    places, propensities = explore(candidates, k, ExplorationConfig(), random)
    assert places.tolist() == list(range(min(k, candidates)))
    assert (propensities == 1).all()


# A shop whose answer is known


@pytest.fixture(scope="module")
def shop():
    """Return people in front of lists, the ranking of the policy that logs and that of another."""
    world = simulate(WorldConfig(users=60, items=40, events=600, days=30))
    audience = Audience.of(world, world.config.start + timedelta(days=20))
    random = np.random.default_rng(1)
    logging = np.argsort(-(audience.chances + random.normal(0, 0.3, audience.chances.shape)), axis=1)
    other = logging.copy()  # shows the same pool, the tail in another order
    other[:, 1:7] = logging[:, 6:0:-1]
    return audience, logging, other


def shown(audience, ranking, user, config=EXPLORE):
    table = np.zeros((K, len(audience.items)))
    depth = config.depth(K)
    table[:, ranking[user, :depth]] = probabilities(depth, K, config)
    return table


def log(shop, seed, answers=8):
    """Return logged rows with the target's probabilities, and the actions of the target."""
    audience, logging, other = shop

    def draw(user, random):
        places, propensities = explore(EXPLORE.depth(K), K, EXPLORE, random)
        return logging[user, places], propensities

    exposures, clicks = audience.log(draw, answers, seed)
    key = ["recommendation_id", "item_id"]
    rewarded = exposures.join(clicks.select(*key, reward=pl.lit(1.0)), on=key, how="left")
    best = {user: [audience.items[int(i)] for i in other[n, :K]] for n, user in enumerate(audience.users)}
    asked = rewarded.select("user_id", "item_id", "rank").iter_rows()
    target = [float(best[user][rank - 1] == item) for user, item, rank in asked]
    logged = rewarded.select(
        "user_id", "item_id", "rank", "propensity",
        pl.col("reward").fill_null(0.0), answer="recommendation_id", target=pl.Series(target),
    )  # fmt: skip
    actions = [
        {"answer": answer, "rank": rank + 1, "item_id": best[user][rank], "probability": 1.0}
        for answer, user in logged.select("answer", "user_id").unique(maintain_order=True).iter_rows()
        for rank in range(K)
    ]
    return logged, pl.DataFrame(actions)


@pytest.fixture(scope="module")
def runs(shop):
    """Return the estimates of the other policy over many logs of the first, and its true value."""
    audience, _, other = shop
    truth = audience.value(lambda user: shown(audience, other, user, ExplorationConfig()))
    found: dict[str, list] = {"ips": [], "snips": [], "dr": []}
    for seed in range(60):
        logged, actions = log(shop, seed)
        for method, estimates in found.items():
            estimates.append(estimate(logged, method, actions=actions if method == "dr" else None))
    return found, truth


@pytest.mark.parametrize("method", ["ips", "snips", "dr"])
def test_estimates_are_unbiased_and_their_intervals_hold_the_truth_as_often_as_they_say(runs, method):
    found, truth = runs
    values = np.array([e.value for e in found[method]])
    error = values.std(ddof=1) / len(values) ** 0.5
    assert abs(values.mean() - truth) < 3.5 * error
    # The users of all logs are the same, so intervals over users are a little wide: never too narrow.
    assert np.mean([e.low <= truth <= e.high for e in found[method]]) >= 0.88


def test_a_model_takes_variance_away(runs):
    spread = {method: np.std([e.value for e in estimates]) for method, estimates in runs[0].items()}
    assert spread["dr"] < spread["ips"]
    assert spread["snips"] < spread["ips"]


def test_the_naive_mean_is_far_from_the_truth_that_ips_finds(shop, runs):
    audience, logging, _ = shop
    own = audience.value(lambda user: shown(audience, logging, user))
    logged, _ = log(shop, 0)
    earned = logged["reward"].sum() / logged["answer"].n_unique()
    assert earned == pytest.approx(own, abs=0.1)
    estimates = np.array([e.value for e in runs[0]["ips"]])
    assert abs(own - runs[1]) > 5 * estimates.std(ddof=1) / len(estimates) ** 0.5


def test_the_true_value_is_what_very_many_lists_earn(shop):
    audience, logging, _ = shop

    def draw(user, random):
        places, propensities = explore(EXPLORE.depth(K), K, EXPLORE, random)
        return logging[user, places], propensities

    exposures, clicks = replace(audience).log(draw, 400, seed=5)
    answers = exposures["recommendation_id"].n_unique()
    own = audience.value(lambda user: shown(audience, logging, user))
    assert len(clicks) / answers == pytest.approx(own, abs=4 / answers**0.5)
    assert look(3) == pytest.approx([1, 2**-0.7, 3**-0.7])
