"""The report: its figures are those of evaluation.json, it loads nothing, and nobody's text is markup."""

import json
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from profiles.display import NONE
from profiles.schema import ContractError
from recsys.metrics.bands import BANDS
from serving import cli
from serving.compare import compare
from serving.details import CHOSEN
from serving.figures import figures
from serving.page import page
from serving.pipeline import Pipeline
from serving.report import notes
from serving.schema import EXAMPLES
from serving.workspace import Workspace
from serving.write_report import read, write

EVIL = '<img src="https://evil.example/x" onerror="alert(1)">'
EPOCHS = [
    {"source": "ease", "epoch": n, "loss": 1 / n, "validation": None if n == 3 else 0.1 * n}
    for n in (1, 2, 3)
]


class Page(HTMLParser):
    """Every tag of a page, and the tables of each section as rows of text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[list[str]]]] = {}
        self.section, self.cell, self.open = "", False, 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self.section = dict(attrs)["id"]
        elif tag == "table":
            self.tables.setdefault(self.section, []).append([])
        elif tag == "tr":
            self.tables[self.section][-1].append([])
        elif tag in ("td", "th"):
            self.tables[self.section][-1][-1].append("")
        self.cell = tag in ("td", "th") or (self.cell and tag == "strong")

    def handle_endtag(self, tag):
        self.cell = self.cell and tag == "strong"

    def handle_data(self, data):
        if self.cell:
            self.tables[self.section][-1][-1][-1] += data


@pytest.fixture(scope="module")
def written(finished: Path) -> tuple[dict, list, Page]:
    """What the finished workspace's evaluation found, what it cost, and its page, with made-up epochs."""
    found, costs = read(finished)
    found = found | {"curves": EPOCHS}
    workspace = Workspace(finished)
    titles = dict(workspace.snapshot.frame("items").select("item_id", "title").iter_rows())
    return found, costs, Page(page(found, figures(found, costs), workspace.read("examples"), titles))


def lead(found: dict, metric: str = "ndcg", k: int = 10) -> dict[str, dict]:
    return {r["source"]: r for r in found["results"] if (r["metric"], r["k"]) == (metric, k)}


def span(row: dict) -> str:
    return NONE if row["low"] is None else f"{row['low']:.4f} … {row['high']:.4f}"


def test_the_ranking_is_that_of_the_evaluation(written):
    found, _, shown = written
    ((head, *rows),) = shown.tables["ranking"]
    told = lead(found)
    best = max((s for s in told if s != "oracle"), key=lambda s: told[s]["mean"])
    assert head[:4] == ["source", "ndcg@10", "95 % interval", f"against {best}"]
    assert head[-1] == "weight"
    assert [row[0] for row in rows] == sorted(told, key=lambda s: -told[s]["mean"])
    for source, mean, interval, against, *others, weight in rows:
        assert (mean, interval) == (f"{told[source]['mean']:.4f}", span(told[source]))
        assert weight == (f"{found['weights'][source]:.2f}" if source in found["weights"] else "")
        for name, value in zip(head[4:-1], others, strict=True):
            metric, _, k = name.partition("@")
            assert value == f"{lead(found, metric, int(k))[source]['mean']:.4f}"
        if source == best:
            assert against == NONE
            continue
        assert against.startswith(f"{told[source]['mean'] - told[best]['mean']:+.4f} (")


def test_compare_and_the_page_say_the_same(written, finished):
    found, _, shown = written
    ((_, *rows),) = shown.tables["ranking"]
    first, second = [row[0] for row in rows if row[0] != "oracle"][:2]
    workspace = Workspace(finished)
    assert compare(workspace, first, second, None, None)["verdict"] == found["verdict"]
    for row in rows:
        if row[0] == first:
            continue
        d = compare(workspace, row[0], first, None, None)["metrics"]["ndcg"]["difference"]
        star = " *" if d["low"] > 0 or d["high"] < 0 else ""
        assert row[3] == f"{d['mean']:+.4f} ({d['low']:+.4f} … {d['high']:+.4f}){star}"


def test_slices_bands_pairs_and_epochs_are_those_of_the_evaluation(written):
    found, _, shown = written
    for by in {row["by"] for row in found["slices"]}:
        ((_, *rows),) = shown.tables[f"slices_{by}"]
        told = [r for r in found["slices"] if r["by"] == by]
        wanted = {(r["slice"], r["source"], f"{r['users']:,}", f"{r['mean']:.4f}", span(r)) for r in told}
        assert {tuple(row) for row in rows} == wanted
        assert len(rows) == len(told)
    ((_, *rows),) = shown.tables["popularity"]
    places = {(r["source"], r["band"]): r["places"] for r in found["popularity"]}
    assert {row[0] for row in rows} == {source for source, _ in places} > {CHOSEN, "blend"}
    for source, *shares in rows:
        whole = sum(places[source, band] for band in BANDS)
        assert shares == [f"{places[source, band] / whole:.1%}" for band in BANDS]
    ((_, *rows),) = shown.tables["overlap"]
    assert sorted(rows) == sorted(
        [r["a"], r["b"], f"{r['rbo']:.2f}", str(r["users"])] for r in found["overlap"]
    )
    ((_, *rows),) = shown.tables["curves"]
    assert rows[1:] == [["ease", "2", "0.5000", "0.2000"], ["ease", "3", "0.3333", NONE]]


def test_trade_offs_are_those_of_the_evaluation_and_of_the_costs(written):
    found, costs, shown = written
    for metric in ("coverage", "novelty"):
        ((_, *rows),) = shown.tables[metric]
        other, told = lead(found, metric), lead(found)
        assert rows == [
            [s, f"{told[s]['mean']:.4f}", f"{other[s]['mean']:.4f}"]
            for s in sorted(told, key=lambda s: -told[s]["mean"])
        ]
    for name in ("fit_s", "fit_mb", "request_ms", "size_mb"):
        ((_, *rows),) = shown.tables[name]
        paid = {row["source"]: row[name] for row in costs}
        assert {row[0]: row[2] for row in rows} == {s: f"{paid[s]:.3g}" for s in lead(found) if s != "oracle"}
        assert all(value > 0 for value in paid.values())


def test_example_users_have_their_lists_side_by_side(written, finished):
    _, _, shown = written
    examples = pl.read_parquet(finished / "examples.parquet")
    titles = dict(Workspace(finished).snapshot.frame("items").select("item_id", "title").iter_rows())
    tables = shown.tables["users"]
    assert len(tables) == examples["user_id"].n_unique() >= 3
    for head, *rows in tables:
        assert head[:3] == ["", "did lately", "then chose"]
        assert "blend" in head
        column = [row[head.index("blend")].removeprefix("✓ ") for row in rows]
        same = [
            user
            for (user,), of in examples.partition_by("user_id", as_dict=True).items()
            if [titles[i] for i in of.filter(kind="list", source="blend")["item_id"]] == column
        ]
        assert same, "no example user has this list"
        truth = {titles[i] for u in same for i in examples.filter(kind="truth", user_id=u)["item_id"]}
        marked = {cell.removeprefix("✓ ") for row in rows for cell in row if cell.startswith("✓ ")}
        assert marked <= truth


def test_the_page_loads_nothing(written, finished):
    found, costs, shown = written
    text = page(found, figures(found, costs), EXAMPLES.empty(), {})
    assert "http" not in text.replace("http-equiv", "")
    assert "@import" not in text
    assert "url(" not in text
    assert not {tag for tag, _ in shown.tags} & {"script", "link", "img", "iframe", "object", "image", "use"}
    addresses = [v for _, attrs in shown.tags for n, v in attrs.items() if n in ("src", "href", "xlink:href")]
    assert addresses
    assert all(address.startswith("#") for address in addresses)
    sections = [attrs["id"] for tag, attrs in shown.tags if tag == "section"]
    assert [a[1:] for a in addresses] == sections
    assert any("default-src 'none'" in (attrs.get("content") or "") for _, attrs in shown.tags)
    assert len(text.encode()) < 3e6


def test_the_page_can_be_heard(written):
    _, _, shown = written
    drawn = [attrs for tag, attrs in shown.tags if tag == "svg"]
    assert len(drawn) == len(shown.tables) - 1
    for attrs in drawn:
        assert attrs["role"] == "img"
        assert len(attrs["aria-label"]) > 20
    heads = [attrs.get("scope") for tag, attrs in shown.tags if tag == "th"]
    assert {*heads} == {"col", "row"}
    assert ("html", {"lang": "en"}) in shown.tags


def test_nothing_that_strangers_wrote_is_markup(finished):
    found, costs = read(finished)
    found["slices"][0]["slice"] = EVIL
    found["verdict"] = [EVIL]
    nothing = dict.fromkeys(("mean", "low", "high"))
    found["results"].append(
        {"source": "sorry", "metric": "ndcg", "k": 10, **nothing, "users": 0, "reason": EVIL}
    )
    examples = Workspace(finished).read("examples").with_columns(user_id=EVIL + pl.col("user_id"))
    titles = {item: f"{EVIL}{item}" for item in examples["item_id"]}
    text = page(found, figures(found, costs), examples, titles)
    assert "&lt;img src=" in text
    assert "<img" not in text
    assert "img" not in {tag for tag, _ in Page(text).tags}


def test_the_command_writes_page_and_pictures_and_says_so(workspace, monkeypatch, capsys, tmp_path):
    def attune(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["attune", "report", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code, capsys.readouterr().err
        return capsys.readouterr().out

    folder = workspace.folder
    stale = folder / "report" / "stale.png"
    stale.parent.mkdir()
    stale.touch()
    told = json.loads(attune("--workspace", str(folder), "--json"))
    assert told["page"] == str(folder / "report" / "index.html")
    assert not stale.exists()
    names = {Path(name).name for name in told["charts"]}
    assert names >= {"ranking.png", "slices_activity.png", "popularity.png", "overlap.png", "fit_s.png"}
    assert {p.name for p in (folder / "report").iterdir()} == names | {"index.html"}
    assert all(Path(name).read_bytes().startswith(b"\x89PNG\r\n") for name in told["charts"])
    text = (folder / "report" / "index.html").read_text("utf-8")
    assert re.search(r"prefers-color-scheme: dark", text)
    assert all(line in text for line in notes(read(folder)[0]))
    elsewhere = tmp_path / "else"
    assert f"{elsewhere / 'index.html'}: open it" in attune("-w", str(folder), "--out", str(elsewhere))
    assert (elsewhere / "index.html").read_text("utf-8") == text


def test_what_cannot_be_reported_is_said(workspace):
    evaluation = workspace.folder / "evaluation.json"
    found = json.loads(evaluation.read_bytes())
    evaluation.write_text("{")
    with pytest.raises(ContractError, match="not readable"):
        write(workspace)
    del found["slices"]
    evaluation.write_text(json.dumps(found))
    with pytest.raises(ContractError, match="earlier version; run `attune evaluate`"):
        write(workspace)
    evaluation.unlink()
    with pytest.raises(ContractError, match="nothing is evaluated yet; run `attune evaluate`"):
        write(workspace)


@pytest.mark.data
def test_a_page_of_movielens(tmp_path):
    data = Path(os.environ.get("ATTUNE_DATA", "nowhere")) / "ml_100k"
    if not data.is_dir():
        pytest.skip("ATTUNE_DATA names no folder with ml_100k")
    config = tmp_path / "attune.toml"
    config.write_text(
        f'[[dataset]]\npreset = "movielens-100k"\npath = "{data}"\n[recommenders.popularity]\n'
        '[recommenders.item_knn]\n[evaluation]\nslices = ["attribute_gender", "events_all"]\n'
    )
    workspace = Workspace(tmp_path / "w", config)
    Pipeline(workspace).run(("ingest", "build", "evaluate"))
    shown = Page(write(workspace)[0].read_text("utf-8"))
    assert {row[0] for row in shown.tables["slices_attribute_gender"][0][1:]} == {"f", "m"}
    users = shown.tables["users"]
    assert any("(19" in cell for head, *rows in users for row in rows for cell in row), "titles with years"
