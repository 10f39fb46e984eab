"""What an evaluation keeps beside its table, against loops over lists and users."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from profiles.schema import ContractError
from recsys.evaluation import EvaluationConfig
from recsys.metrics.overlap import overlap
from recsys.metrics.slices import COLD, HEAVY
from serving.details import CHOSEN, PICKS, Details, details, labels
from serving.pipeline import Pipeline
from serving.report import draw, told_by
from serving.settings import choice
from serving.trial import Cost, Fits, Trial
from serving.workspace import Workspace

K = 10


@pytest.fixture(scope="module")
def judged(finished: Path) -> tuple[Trial, pl.DataFrame, Details]:
    """The trial of the finished workspace, its lists, and its details by country."""
    workspace = Workspace(finished)
    pipeline = Pipeline(workspace)
    (trial,) = pipeline.tests
    rankings = pipeline._judged(trial, json.loads((finished / "evaluation.json").read_bytes())["weights"])
    catalogue = pipeline.laboratory.catalogue
    columns = labels(workspace.snapshot.frame("user_profiles"), ["attribute_country"])
    found = details([trial], [rankings], catalogue, EvaluationConfig(), columns)
    return trial, trial.lists(rankings, catalogue.items, K), found


def ndcg(listed: list[str], truth: set[str]) -> float:
    gains = sum(1 / np.log2(n + 2) for n, item in enumerate(listed) if item in truth)
    return gains / sum(1 / np.log2(n + 2) for n in range(min(len(truth), K)))


def by_user(frame: pl.DataFrame) -> dict[str, list[str]]:
    found = defaultdict(list)
    for user, item in frame.select("user_id", "item_id").iter_rows():
        found[user].append(item)
    return found


@pytest.mark.parametrize("source", ["blend", "popularity"])
def test_slices_are_means_over_their_users_and_items(judged, source, finished):
    trial, lists, found = judged
    listed = by_user(lists.filter(source=source).sort("user_id", "rank"))
    truth = {user: set(items) for user, items in by_user(trial.split.truth).items()}
    liked = trial.split.train.filter(pl.col("weight") > 0)
    done = dict(liked["user_id"].value_counts().iter_rows())
    had = dict(liked.group_by("item_id").agg(pl.col("user_id").n_unique()).iter_rows())
    countries = dict(
        Workspace(finished).snapshot.frame("user_profiles").select("user_id", "attribute_country").iter_rows()
    )
    means = defaultdict(list)
    for user, wanted in truth.items():
        n = done.get(user, 0)
        activity = "cold" if n < COLD else "warm" if n < HEAVY else "heavy"
        means["activity", activity].append(ndcg(listed[user], wanted))
        means["attribute_country", countries[user]].append(ndcg(listed[user], wanted))
        if new := {item for item in wanted if not had.get(item)}:
            means["items", "new"].append(ndcg(listed[user], new))
    told = {(r["by"], r["slice"]): r for r in found.slices.filter(source=source).iter_rows(named=True)}
    assert set(means) <= {*told} | {("attribute_country", c) for c in countries.values()}
    for key, values in means.items():
        if key not in told:  # a country of few is in "other"
            assert ("attribute_country", "other") in told
            continue
        assert told[key]["mean"] == pytest.approx(np.mean(values), abs=1e-12), key
        assert told[key]["users"] == len(values)
    sizes = [r["users"] for (by, _), r in told.items() if by == "attribute_country"]
    assert sum(sizes) == len(truth)


def test_places_and_pairs_are_those_of_the_lists(judged):
    trial, lists, found = judged
    places = dict(found.popularity.group_by("source").agg(pl.col("places").sum()).iter_rows())
    assert places == {**dict(lists["source"].value_counts().iter_rows()), CHOSEN: len(trial.split.truth)}
    row = found.overlap.filter(a="blend", b="ease").row(0, named=True)
    assert row["rbo"] == pytest.approx(overlap(lists, "blend", "ease", [K])["value"].mean())
    assert row["users"] == len(trial.split.users)
    names = lists["source"].n_unique()
    assert len(found.overlap) == names * (names - 1) // 2


def test_examples_are_users_of_every_kind_with_all_they_had(judged):
    trial, lists, found = judged
    examples = found.examples
    kinds = set(found.slices.filter(by="activity")["slice"])
    assert set(examples["slice"]) == kinds
    assert examples["user_id"].n_unique() <= len(kinds) * len(PICKS)
    truth = by_user(trial.split.truth)
    for (user,), of in examples.partition_by("user_id", as_dict=True).items():
        past = trial.split.histories.filter(pl.col("weight") > 0, user_id=user).sort(
            "timestamp", descending=True
        )
        distinct = list(dict.fromkeys(past["item_id"]))[:K]
        assert of.filter(kind="history").sort("rank")["item_id"].to_list() == distinct
        assert set(of.filter(kind="truth")["item_id"]) <= set(truth[user])
        assert of.filter(kind="truth")["right"].all()
        mine = of.filter(kind="list", source="blend")
        assert mine["item_id"].to_list() == lists.filter(user_id=user, source="blend")["item_id"].to_list()
        assert mine["right"].to_list() == [item in truth[user] for item in mine["item_id"]]


def test_a_column_that_is_not_there_is_named_before_anything_is_fitted(workspace):
    profiles = workspace.snapshot.frame("user_profiles")
    with pytest.raises(ContractError, match=r"'country' is no column .* did you mean 'attribute_country'\?"):
        labels(profiles, ["country"])
    with pytest.raises(ContractError, match="holds List"):
        labels(profiles, ["last_items"])


def test_what_a_fit_took_is_kept_with_it(two_tastes, tmp_path):
    fits = Fits(tmp_path)
    learner = choice("mult_vae", {"epochs": 3, "hidden": 8, "latent": 4, "patience": 3})
    fits.fit(learner, "data", two_tastes.train)
    told = Cost.read(fits.place(learner, "data"))
    assert told.seconds > 0
    assert told.size > 8 * len(two_tastes.catalogue.items)
    assert [epoch["epoch"] for epoch in told.epochs] == [1, 2, 3]
    assert all(epoch["loss"] > 0 and epoch["validation"] is not None for epoch in told.epochs)
    fits.fit(learner, "data", two_tastes.train)
    assert Cost.read(fits.place(learner, "data")) == told, "read back, not fitted again"
    counter = choice("popularity", {})
    fits.fit(counter, "data", two_tastes.train)
    assert not Cost.read(fits.place(counter, "data")).epochs


def test_sources_are_compared_by_a_metric_that_was_measured_per_user():
    figures = {("a", "coverage"): 0.9, ("a", "mrr"): 0.1, ("b", "coverage"): 0.2, ("b", "mrr"): 0.3}
    rows = [
        {"source": s, "metric": m, "k": 5, "mean": v, "low": v, "high": v, "users": 7 if m == "mrr" else None}
        for (s, m), v in figures.items()
    ]
    split = dict.fromkeys(
        ("users", "cold_users", "pairs", "seen_pairs", "unavailable_pairs", "unreachable_share"), 0
    )
    split |= {"protocol": "temporal", "leaks": None, "at": []}
    found = {"results": rows, "reference": None, "weights": {}, "split": split}
    assert told_by(found) == ("mrr", 5)
    drawn = draw(found, "Evaluation")
    assert [c.header for c in drawn.columns][:2] == ["source", "mrr@5"]
    assert list(drawn.columns[0].cells) == ["b", "a"]


@pytest.mark.parametrize("metrics", [["coverage", "gini"], []])
def test_metrics_that_compare_no_sources_are_refused(metrics):
    with pytest.raises(ValueError, match="measured per user, such as ndcg"):
        EvaluationConfig(metrics=metrics)
