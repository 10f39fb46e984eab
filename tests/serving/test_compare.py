"""`attune compare`: the verdict, and what is refused."""

import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from profiles.schema import ContractError
from recsys.comparison import holm, judge
from serving.compare import compare, lines

USERS = [f"u{n:03}" for n in range(120)]


def frame(source: str, metric: str, values: np.ndarray, k: int = 10) -> pl.DataFrame:
    told = {"source": source, "metric": metric, "k": k, "user_id": USERS[: len(values)], "value": values}
    return pl.DataFrame(told).with_columns(pl.col("k").cast(pl.Int64), cluster="user_id")


@pytest.fixture
def evaluated(tmp_path):
    """Return a function that puts METRICS where an evaluation leaves them."""

    def write(*frames: pl.DataFrame, leaks: str | None = None) -> SimpleNamespace:
        pl.concat(frames).write_parquet(tmp_path / "metrics.parquet")
        about = {"split": {"protocol": "temporal", "leaks": leaks}}
        (tmp_path / "evaluation.json").write_text(json.dumps(about))
        return SimpleNamespace(folder=tmp_path)

    return write


@pytest.fixture
def workspace(evaluated):
    random = np.random.default_rng(0)
    b = random.random(120) / 2
    better, alike = b + random.normal(0.05, 0.05, 120), b + random.normal(0, 0.2, 120)
    frames = [frame(s, "ndcg", v) for s, v in {"ease": better, "popularity": b, "random": alike}.items()]
    frames += [frame(s, "arp", random.random(120)) for s in ("ease", "popularity", "random")]
    return evaluated(*frames, leaks="train holds what came later")


def test_the_better_one_is_named_with_all_that_is_known(workspace):
    found = compare(workspace, "popularity", "ease", None, None)
    assert (found["metric"], found["k"]) == ("ndcg", 10)
    metrics = pl.read_parquet(workspace.folder / "metrics.parquet")
    each = {name: judge(metrics, "popularity", "ease", name, 10) for name in ("arp", "ndcg")}
    corrected = holm([each["arp"].p, each["ndcg"].p])
    assert [found["metrics"][name]["holm"] for name in ("arp", "ndcg")] == corrected
    lead = each["ndcg"]
    head, means, sure, users, least, caution = found["verdict"]
    assert head == "ease is better than popularity."
    assert means == (
        f"ndcg@10 over 120 users: popularity {lead.a:.4f}, ease {lead.b:.4f}, "
        f"difference {lead.difference.mean:+.4f} ({lead.difference.mean / lead.b:+.1%})."
    )
    assert f"{lead.difference.low:+.4f} and {lead.difference.high:+.4f}" in sure
    assert "in less than 1 % of cases, corrected for 2 metrics" in sure
    assert f"ease for {lead.worse}" in users
    assert f"{lead.detectable:.4f} or more" in least
    assert caution == "Caution: the temporal split leaks: train holds what came later."
    shown = lines(found).splitlines()
    assert shown[0] == head
    assert [line.split()[0] for line in shown[-3:]] == ["metric", "arp@10", "ndcg@10"]


def test_what_is_not_shown_is_not_said(workspace):
    found = compare(workspace, "random", "popularity", None, 10)
    assert found["verdict"][0] == "No difference is shown between random and popularity."
    assert "a smaller one may be there" in found["verdict"][4]


def test_one_user_says_nothing(evaluated):
    lone = evaluated(*(frame(s, "ndcg", np.array([v]), 5) for s, v in {"a": 1.0, "b": 0.0}.items()))
    found = compare(lone, "a", "b", None, None)
    assert found["k"] == 5
    assert found["verdict"] == [
        "One user says nothing: a and b cannot be told apart.",
        "ndcg@5 over 1 users: a 1.0000, b 0.0000, difference +1.0000.",
    ]
    json.dumps(found, allow_nan=False)
    assert lines(found).splitlines()[-1].split()[-2:] == ["–", "–"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("eese", "popularity", None, None), "no source 'eese' was evaluated; did you mean 'ease'"),
        (("ease", "ease", None, None), "'ease' is compared with itself; there are ease, popularity, random"),
        (("ease", "random", "ndgc", None), "metric 'ndgc' was not evaluated per user; did you mean 'ndcg'"),
        (("ease", "random", None, 7), "k = 7 was not evaluated; there are 10"),
        (("ease", "random", None, 0), "k = 0 was not evaluated; there are 10"),
    ],
)
def test_what_was_not_evaluated_is_refused(workspace, asked, told):
    with pytest.raises(ContractError, match=told):
        compare(workspace, *asked)


def test_nothing_evaluated_is_said(tmp_path):
    with pytest.raises(ContractError, match="nothing is evaluated yet; run `attune evaluate`"):
        compare(SimpleNamespace(folder=tmp_path), "a", "b", None, None)
