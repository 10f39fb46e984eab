"""How a search judges settings of a recommender: the mean over users, in growing samples, epochs told."""

import polars as pl
import pytest

from profiles.schema import ITEMS, ContractError
from profiles.simulate import WorldConfig, simulate
from recsys.dataset import Catalogue, Dataset
from recsys.evaluation import EvaluationConfig, measure_split, queries
from recsys.models import RECOMMENDERS
from recsys.split import splits
from recsys.tuning import Pruned, Report
from recsys.validation import NINTHS, PATIENCE, Cut, Validation

CONFIG = EvaluationConfig(metrics=("recall",), ks=(5,), split="rolling", origins=2, every_days=20)


@pytest.fixture(scope="module")
def cut_up():
    """Return the splits of a small shop, its catalogue, and their cuts."""
    shop = simulate(WorldConfig(users=600, items=120, events=12_000))
    views = shop.events.filter(pl.col("event_type") == "view")
    log = views.select("user_id", "item_id", "event_type", "timestamp", weight=pl.lit(1.0, pl.Float32))
    known = log.select("item_id", "timestamp")
    catalogue = Catalogue.of(ITEMS.conform(shop.items), known, log["timestamp"].max())
    found = splits(log, catalogue, CONFIG)
    cuts = []
    for number, split in enumerate(found):
        train = Dataset.of(split.train, catalogue, split.at)
        ask = lambda users, split=split: queries(split, catalogue, CONFIG, users=users)  # noqa: E731
        cuts.append(Cut.of(split, train, catalogue, ask, NINTHS if number == 0 else NINTHS[-1:]))
    return found, catalogue, cuts


def validation(cut_up, name, cuts=None, **fixed):
    return Validation(RECOMMENDERS[name], fixed, cuts or cut_up[2], "recall", 5)


def silent(step, value):
    return True


def test_the_value_is_the_mean_over_users_of_what_evaluation_measures(cut_up):
    found, catalogue, _ = cut_up
    outcome = validation(cut_up, "item_knn", shrinkage=3.0)({"neighbours": 7}, Report(silent))
    kind = RECOMMENDERS["item_knn"]
    rows = []
    for split in found:
        model = kind(kind.config_class(neighbours=7, shrinkage=3.0))
        model.fit(Dataset.of(split.train, catalogue, split.at))
        lists = model.recommend(queries(split, catalogue, CONFIG), 5, catalogue, "it")
        rows.append(measure_split(lists, split, catalogue, CONFIG))
    assert outcome.value == pytest.approx(pl.concat(rows)["value"].mean(), abs=1e-12)
    assert outcome.found == {}


def test_samples_grow_and_part_the_users(cut_up):
    (first, _), _, (cut, other) = cut_up
    assert [s.ninths for s in cut.samples] == [3, 9]  # a ninth of so few is no sample
    asked = [user for sample in cut.samples for user in sample.queries.ids]
    assert sorted(asked) == first.users
    assert len(cut.samples[0].queries) == len(first.users) // 3
    assert [s.ninths for s in other.samples] == [9]
    for sample in cut.samples:
        assert set(sample.truth["user_id"]) == set(sample.queries.ids)


def test_a_trial_is_told_of_as_it_goes_and_can_be_stopped(cut_up):
    told = []

    def listening(step, value):
        told.append((step, value))
        return True

    outcome = validation(cut_up, "popularity")({}, Report(listening))
    assert [step for step, _ in told] == [3, 9, 18]
    assert told[-1][1] == outcome.value
    with pytest.raises(Pruned):
        validation(cut_up, "popularity")({}, Report(lambda step, value: step < 9))


def test_epochs_are_told_and_the_best_of_them_found(cut_up):
    told = []

    def listening(step, value):
        told.append((step, value))
        return True

    small = {"factors": 8, "epochs": 40, "learning_rate": 0.05, "batch_size": 512, "max_length": 20}
    gru = validation(cut_up, "gru4rec", cut_up[2][:1], **small)
    outcome = gru({"dropout": 0.1}, Report(listening))
    steps, values = zip(*told, strict=True)
    best = outcome.found["epochs"]
    assert steps == tuple(range(1, len(steps) + 1))
    assert list(values) == sorted(values)  # the best so far
    assert best == values.index(values[-1]) + 1
    assert len(steps) == min(40, best + PATIENCE)
    with pytest.raises(Pruned):
        gru({"dropout": 0.1}, Report(lambda step, value: step < 2))
    own = validation(cut_up, "gru4rec", cut_up[2][:1], **{**small, "epochs": 2, "patience": 1})
    assert own({}, Report(silent)).found == {}  # who has patience keeps it


def test_settings_that_contradict_each_other_are_refused(cut_up):
    with pytest.raises(ContractError, match="heads = 3 does not divide factors = 32"):
        validation(cut_up, "sasrec", heads=3)({"factors": 32}, Report(silent))


def test_data_that_lacks_what_is_needed_is_refused(cut_up):
    with pytest.raises(ContractError, match="text"):
        validation(cut_up, "content_text")({}, Report(silent))
