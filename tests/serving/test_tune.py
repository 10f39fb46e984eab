"""`attune tune`: never the test, resumed by what it depends on, and settings where train finds them."""

import json
import re
from dataclasses import replace

import polars as pl
import pytest

from profiles.schema import ContractError
from recsys.models import RECOMMENDERS
from recsys.split import splits, validations
from serving.cli import app
from serving.mistakes import chosen
from serving.pipeline import Pipeline
from serving.settings import TuneConfig
from serving.tune_sources import Tuner
from serving.workspace import Workspace
from serving.write_report import write

CONFIG = TuneConfig(trials=6, pruning="none")


def tuner(workspace, config=CONFIG):
    return Tuner(Pipeline(workspace), config)


def tries(found):
    return [replace(t, seconds=0.0) for t in found.tries]


def poisoned(log: pl.DataFrame, after, seed: int = 0) -> pl.DataFrame:
    """Return a log in which what happened after a moment happened to other items."""
    late = log["timestamp"] > after
    mixed = log.filter(late)["item_id"].shuffle(seed)
    assert not mixed.equals(log.filter(late)["item_id"])
    return pl.concat([log.filter(~late), log.filter(late).with_columns(item_id=mixed)])


@pytest.mark.parametrize("name", ["ease", "item_knn", "content_text"])
def test_the_truth_of_the_test_is_never_read(workspace, name, monkeypatch, tmp_path):
    pipeline = Pipeline(workspace)
    log = workspace.snapshot.frame("interactions")
    (test,), (choice,) = pipeline.cuts(splits), pipeline.cuts(validations)
    assert choice.at < test.at

    def tuned(frame: pl.DataFrame):
        monkeypatch.setattr(Pipeline, "_interactions", frame)
        for kept in (workspace.folder / "tuning").glob("*"):
            kept.unlink()
        return tries(tuner(workspace).tune(name).found)

    plain = tuned(log)
    assert tuned(poisoned(log, test.at)) == plain
    assert tuned(poisoned(log, choice.at)) != plain  # what it does read shows


def test_the_same_search_goes_on_and_another_begins_anew(workspace):
    first = tuner(workspace).tune("ease").found
    kept = sorted(path.name for path in (workspace.folder / "tuning").iterdir())
    again = tuner(workspace, CONFIG.model_copy(update={"trials": 8, "minutes": 60.0})).tune("ease").found
    assert tries(again)[:6] == tries(first)
    assert sorted(path.name for path in (workspace.folder / "tuning").iterdir()) == kept
    tuner(workspace, CONFIG.model_copy(update={"seed": 1})).tune("ease")
    tuner(workspace).tune("ease", only=["l2"])
    config = workspace.folder / "attune.toml"
    config.write_text(config.read_text() + "quantile = 0.8\n")
    tuner(Workspace(workspace.folder, config)).tune("ease")
    assert len(list((workspace.folder / "tuning").iterdir())) == 4


def test_the_settings_of_now_come_first_and_the_best_is_no_worse(workspace):
    tuned = tuner(workspace).tune("ease")
    assert tuned.found.tries[0].settings == tuned.before == {"l2": 200.0, "user_power": 0.0}
    assert tuned.current == tuned.found.tries[0]
    assert tuned.found.best.value >= tuned.current.value
    assert tuned.metric == "ndcg@10"


def test_trials_apart_give_the_same_figures(workspace):
    here = tuner(workspace, CONFIG.model_copy(update={"trials": 3})).tune("ease").found
    for kept in (workspace.folder / "tuning").glob("*"):
        kept.unlink()
    apart = tuner(workspace, CONFIG.model_copy(update={"trials": 3, "memory_gb": 4.0})).tune("ease").found
    assert tries(apart) == tries(here)


def test_names(workspace):
    own = tuner(workspace)
    assert own.names(["all"]) == ["popularity", "recent", "item_knn", "als", "ease", "content_text"]
    assert own.names(["slim", "recent", "slim"]) == ["slim", "recent"]
    assert own.choice("recent").type == "popularity"
    with pytest.raises(ContractError, match="no source or recommender is called 'eese'; did you mean 'ease'"):
        own.names(["eese"])
    with pytest.raises(ContractError, match="called 'finetunes'; did you mean 'finetune'"):
        own.names(["finetunes"])
    with pytest.raises(ContractError, match="random: there is nothing to search: whatever its seed"):
        own.names(["random"])
    timeless = replace(own.pipeline.laboratory, timeless=True)
    own.pipeline.__dict__["laboratory"] = timeless
    assert not own.space(own.choice("popularity"))
    assert "half_life_days" not in own.space(own.choice("item_knn")).dimensions
    with pytest.raises(ContractError, match="only an order"):
        own.names(["popularity"])


def test_what_is_asked_for_is_checked():
    assert chosen("tune", CONFIG, {"method": "grid"}).method == "grid"
    with pytest.raises(ContractError, match="tune: method: input should be 'bayesian', 'random' or 'grid'"):
        chosen("tune", CONFIG, {"method": "genetic"})
    with pytest.raises(ContractError, match="tune: metric: input should be"):
        chosen("tune", CONFIG, {"metric": "novelty"})  # more of it is not better


def test_a_best_at_the_end_is_told_and_the_range_can_be_widened(workspace, capsys):
    """Of penalties that are all too small the largest is best: in print, JSON, plots and the report."""
    words = ["tune", "ease", "-w", str(workspace.folder), "--trials", "5", "--only", "l2"]
    config = workspace.folder / "attune.toml"
    config.write_text(re.sub("l2 = .*", "l2 = 5.0", config.read_text()))
    app([*words, "--range", "l2=1:20", "--method", "grid"], standalone_mode=False)
    told = capsys.readouterr().out
    assert "l2 = 20 is the best, at the upper end of 1 … 20 by ratios" in told
    assert "widen it by --range l2=1:200" in told.replace("\n", " ")
    page = write(workspace)[0].read_text()
    assert "ease: l2 = 20 is the best, at the upper end" in page
    app([*words, "--range", "l2=1:100000", "--method", "grid", "--json"], standalone_mode=False)
    (row,) = json.loads(capsys.readouterr().out)
    assert row["edges"] == []
    assert 1 < row["settings"]["l2"] < 100_000
    assert "is the best, at the upper end" not in write(workspace)[0].read_text()
    (workspace.folder / "tuning" / "ease.json").write_text("{")
    with pytest.raises(ContractError, match=r"ease\.json: not as it was written"):
        write(workspace)
    for told, wrong in (
        ("l2=-5,3", "ease: l2 cannot be -5"),
        ("l2", "NAME=LOW:HIGH or NAME=A,B,C is expected"),
        ("l3=1:2", "'l3' is not searched"),
    ):
        with pytest.raises(ContractError, match=wrong):
            app([*words, "--range", told], standalone_mode=False)


def test_the_command_writes_settings_that_train_uses(workspace, capsys, tmp_path):
    config = workspace.folder / "attune.toml"
    before = config.read_text()
    words = ["tune", "ease", "sequential_ease", "-w", str(workspace.folder), "--trials", "4", "--only", "l2"]
    app([*words, "--plots", str(tmp_path)], standalone_mode=False)
    told = capsys.readouterr()
    assert config.read_text() == before
    assert "[recommenders.ease]\nl2 = " in told.out
    assert "the best so far" in told.err
    for name in ("ease", "sequential_ease"):
        page = (tmp_path / f"{name}.html").read_text()
        assert "<script src=" not in page
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    app([*words, "--write", "--json"], standalone_mode=False)
    found = {row["source"]: row for row in json.loads(capsys.readouterr().out)}
    after = Workspace(workspace.folder, config).settings.sources()
    assert after["ease"].config.l2 == found["ease"]["settings"]["l2"]
    assert after["sequential_ease"].config.l2 == found["sequential_ease"]["settings"]["l2"]
    assert set(after) == {*Workspace(workspace.folder).settings.recommenders, "sequential_ease"}
    assert all(line in config.read_text() for line in before.splitlines() if not line.startswith("l2"))
    assert found["ease"]["value"] >= found["ease"]["value_before"]
    app([*words, "content_vectors", "--json"], standalone_mode=False)  # which lacks vectors
    assert [row["source"] for row in json.loads(capsys.readouterr().out)] == ["ease", "sequential_ease"]
    assert RECOMMENDERS["sequential_ease"].config_class(**found["sequential_ease"]["settings"])
