"""What a notebook is given shows itself, escaped, draws itself, and turns into frames."""

from pathlib import Path

import polars as pl
import pytest

from profiles.schema import ContractError
from recsys.comparison import judge
from serving import Workspace, sample
from serving.engine import Engine
from serving.notebook import Evaluation, Lists, Profile, Verdict
from serving.write_report import read

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def shop(finished: Path) -> Workspace:
    """The finished workspace; nothing here writes to it."""
    return Workspace(finished)


@pytest.fixture(scope="module")
def user(shop: Workspace) -> str:
    """One who did much."""
    return shop.snapshot.to_polars()["user_id"].value_counts(sort=True)["user_id"][0]


def test_an_evaluation_is_its_file(shop):
    results = Evaluation.read(shop)
    found, costs = read(shop.folder)
    assert (results.found, results.costs) == (found, costs)
    assert results.to_polars().to_dicts() == found["results"]
    shown = results._repr_html_()
    assert found["verdict"][0] in shown
    (lead,) = (r for r in found["results"] if (r["source"], r["metric"], r["k"]) == ("ease", "ndcg", 10))
    assert f"{lead['mean']:.4f}" in shown
    for name in results.figures:
        assert results.plot(name).to_dict()["config"]["font"].startswith("Arial")
    with pytest.raises(ContractError, match="no figure 'rankin'; did you mean 'ranking'"):
        results.plot("rankin")


def test_a_verdict_is_what_the_command_says(shop):
    verdict = shop.compare("ease", "popularity")
    told = verdict.to_polars()
    assert {"metric", "ease", "popularity", "difference", "low", "high", "p"} <= set(told.columns)
    row = told.filter(metric="ndcg").row(0, named=True)
    assert f"{row['difference']:+.4f}" in str(verdict)
    for line in verdict.found["verdict"]:
        assert line in str(verdict)
        assert line in verdict._repr_html_()
    assert repr(row["difference"]) in str(verdict.plot().to_dict())
    assert shop.compare("ease", "popularity", "recall", 5).found["k"] == 5
    assert EVIL not in Verdict(verdict.found | {"verdict": [EVIL, EVIL]})._repr_html_()


def test_a_comparison_of_metrics_shows_itself(shop):
    found = judge(shop.read("metrics"), "ease", "popularity", "ndcg", 10)
    row = found.to_polars().row(0, named=True)
    assert (row["a"], row["mean"], row["users"]) == (found.a, found.difference.mean, found.users)
    assert "<table>" in found._repr_html_()
    assert found.plot().to_dict()
    assert found.to_pandas().shape == (1, len(row))


def test_lists_say_why_and_what_they_are_made_of(shop, user):
    lists = shop.recommend([user, "nobody"], k=5, explain=True)
    frame = lists.to_polars()
    assert frame["user_id"].to_list() == [user] * 5 + ["nobody"] * 5
    assert frame.filter(user_id=user)["why"].str.contains("because of ").any()
    answer = Engine(shop, shop.release).recommend(
        Engine(shop, shop.release).past(user, shop.snapshot.as_of), 5, explain=True
    )
    own = shop.recommend([user], 5, shop.snapshot.as_of, explain=True).to_polars()
    assert own["item_id"].to_list() == [item["item_id"] for item in answer["items"]]
    assert own["why"].to_list() == ["; ".join(r["text"] for r in item["reasons"]) for item in answer["items"]]
    summed = lists.contributions.group_by("user_id", "item_id").agg(pl.col("contribution").sum())
    both = frame.join(summed, on=["user_id", "item_id"])
    assert both["contribution"].to_list() == pytest.approx(both["score"].to_list(), rel=1e-5)
    assert "nobody" in lists._repr_html_()
    assert lists.plot("nobody").to_dict()
    with pytest.raises(ContractError, match="no list of user 'somebody'"):
        lists.plot("somebody")
    evil = Lists(frame.with_columns(title=pl.lit(EVIL), user_id=pl.lit(EVIL)), lists.contributions)
    assert "<script" not in evil._repr_html_()
    assert "why" not in shop.recommend([user], 3).to_polars().columns
    assert shop.recommend(user, 3).to_polars().equals(shop.recommend([user], 3).to_polars())


@pytest.mark.parametrize(("users", "k", "told"), [(["u"], 0, "at least 1, not 0"), ([], 3, "name a user")])
def test_lists_of_nothing_and_for_nobody_are_refused(shop, users, k, told):
    with pytest.raises(ContractError, match=told):
        shop.recommend(users, k)


def test_words_move_a_list(shop, user):
    plain = shop.recommend([user], 10).to_polars()["item_id"].to_list()
    asked = shop.recommend([user], 10, text="a folk string quartet", explain=True).to_polars()
    assert asked["item_id"].to_list() != plain
    assert asked["why"].str.contains("matches your words").any()


def test_a_profile_is_what_is_known(shop, user):
    profile = shop.profile(user)
    assert profile["known"]
    told = dict(profile.to_polars().iter_rows())
    assert told["events_all"] == f"{profile['profile']['events_all']:,}"
    assert "category_affinity" in told
    shown = profile._repr_html_()
    assert "latest events" in shown
    assert profile.plot().to_dict()
    evil = Profile(
        profile | {"attributes": {"city": EVIL}, "events": [dict.fromkeys(profile["events"][0], EVIL)]}
    )
    assert "<script" not in evil._repr_html_()
    assert not shop.profile("nobody")["known"]
    assert shop.profile("nobody").to_polars().filter(column="category_affinity").is_empty()


def test_snapshots_and_releases_show_themselves(shop):
    snapshot, release = shop.snapshot, shop.release
    assert f"{snapshot.about['counts']['events']:,}" in snapshot._repr_html_()
    assert snapshot.to_polars("items").equals(snapshot.frame("items"))
    assert snapshot.plot().to_dict()
    weights = dict(release.to_polars().select("source", "weight").iter_rows())
    assert {n: w for n, w in weights.items() if w} == dict(release.weights)
    assert release.name in release._repr_html_()
    assert release.plot().to_dict()


def test_a_sample_is_two_lines_away(tmp_path):
    shop = sample(tmp_path / "shop", users=60, items=40, events=1500).run("ingest", "build")
    assert shop.snapshot.about["counts"]["users"] == 60
    assert shop.check().columns[:2] == ["check", "level"]
    again = sample(tmp_path / "shop", users=60, items=40, events=1500).run("ingest", "build")
    assert again.snapshot.name == shop.snapshot.name
