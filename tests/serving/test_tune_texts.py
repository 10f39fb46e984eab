"""`attune tune finetune` and `classify`: what is read, resumed, written and drawn."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from profiles.schema import ContractError
from recsys.tuning import TuningConfig
from serving.cli import app
from serving.labelled import settings_of
from serving.tune import tune
from serving.tune_texts import Finetuning
from serving.workspace import Workspace

pytest.importorskip("sklearn")


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of texts that mostly name their label, beside nothing else."""
    random = np.random.default_rng(0)
    labels = random.choice(["pay", "fly", "eat"], size=60, p=[0.5, 0.3, 0.2])
    said = np.where(random.random(60) < 0.85, labels, "eat")
    texts = [f"i want to {word} now, number {n}" for n, word in enumerate(said)]
    users = [f"u{n // 2}" for n in range(60)]
    pl.DataFrame({"said": texts, "intent": labels, "user": users}).write_csv(tmp_path / "train.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(*more: object) -> list[str]:
    asked = ["--file", "train.csv", "--text", "said", "--label", "intent", "--set", "method=tfidf"]
    return ["tune", "classify", *asked, *map(str, more)]


def trials(told: str) -> list[dict]:
    (row,) = json.loads(told)
    return [{n: v for n, v in t.items() if n != "seconds"} for t in row["trials"]]


def test_a_classifier_is_tuned_without_a_workspace(labelled: Path, capsys: pytest.CaptureFixture[str]):
    more = ("--folds", 3, "--group", "user", "--set", "penalty=5")
    app(words("--trials", 3, *more), standalone_mode=False)
    told = capsys.readouterr()
    assert "classify: 3 trials" in told.out
    assert "f1_macro" in told.out
    assert "penalty = " in told.out
    assert 'method = "tfidf"' in told.out
    assert "the best so far" in told.err
    kept = list((labelled / "workspace" / "tuning").glob("*.jsonl"))
    assert len(kept) == 1

    app(words("--trials", 5, *more, "--json"), standalone_mode=False)
    found = capsys.readouterr().out
    (row,) = json.loads(found)
    assert row["type"] == "tfidf"
    assert row["before"] == {"class_weights": "none", "penalty": 5, "grams": "words"}
    assert row["value"] >= row["value_before"]
    assert list((labelled / "workspace" / "tuning").glob("*.jsonl")) == kept  # it went on
    whole = trials(found)
    kept[0].unlink()
    app(words("--trials", 5, *more, "--json"), standalone_mode=False)
    assert trials(capsys.readouterr().out) == whole

    # The figure is that of `classify validate`.
    best = json.dumps(row["settings"])
    given = [w for n, v in json.loads(best).items() for w in ("--set", f"{n}={v}")]
    asked = ["train.csv", "--text", "said", "--label", "intent", "--group", "user", "--folds", "3"]
    app(
        ["classify", "validate", *asked, "--set", "method=tfidf", *given, "-o", "R", "--json"],
        standalone_mode=False,
    )
    figures = {f["metric"]: f["value"] for f in json.loads(capsys.readouterr().out)}
    assert figures["f1_macro"] == pytest.approx(row["value"], abs=1e-12)


def test_a_test_file_is_never_read(labelled: Path, capsys: pytest.CaptureFixture[str]):
    found = []
    for content in ("said,intent\ni want to fly,pay\n", "not even a table"):
        (labelled / "test.csv").write_text(content)
        app(words("--trials", 3, "--share", 0.3, "--json", "-w", f"W{len(found)}"), standalone_mode=False)
        found.append(trials(capsys.readouterr().out))
    assert found[0] == found[1]


def test_trials_apart_give_the_same_figures(labelled: Path, capsys: pytest.CaptureFixture[str]):
    found = []
    for n, more in enumerate(((), ("--memory-gb", 4))):
        app(words("--trials", 3, "--share", 0.3, "--json", "-w", f"W{n}", *more), standalone_mode=False)
        found.append(trials(capsys.readouterr().out))
    assert found[0] == found[1]
    assert len({t["value"] for t in found[0]}) > 1


def test_the_best_goes_into_the_file_of_settings(labelled: Path, capsys: pytest.CaptureFixture[str]):
    settings = labelled / "settings.toml"
    before = "# as agreed\npenalty = 5.0  # too much\n"
    settings.write_text(before)
    more = ("--trials", 6, "--folds", 3, "--metric", "accuracy", "--settings", settings)
    app(words(*more, "--write", "--json", "--plots", labelled / "P"), standalone_mode=False)
    (row,) = json.loads(capsys.readouterr().out)
    assert row["metric"] == "accuracy"
    assert row["value"] > row["value_before"]
    config = settings_of(settings, ())
    assert config.method == "tfidf"
    assert {name: getattr(config, name) for name in row["settings"]} == row["settings"]
    assert settings.read_text().startswith("# as agreed\npenalty = ")
    assert "# too much" in settings.read_text()
    assert "<script src=" not in (labelled / "P" / "classify.html").read_text()
    assert (labelled / "P" / "classify.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ContractError, match="name a TOML file by --settings"):
        app(words(*more[:-2], "--write", "-w", "other", "--set", "penalty=5"), standalone_mode=False)


def test_what_is_asked_for_is_checked(labelled: Path):
    with pytest.raises(ContractError, match="name the file of labelled texts by --file"):
        app(["tune", "classify"], standalone_mode=False)
    with pytest.raises(ContractError, match="tune: metric: input should be 'accuracy'"):
        app(words("--metric", "ndcg"), standalone_mode=False)
    with pytest.raises(ContractError, match="'epochs' is not searched; known are class_weights, penalty"):
        app(words("--only", "epochs"), standalone_mode=False)


def test_settings_inside_others_are_searched_where_a_range_is_named(
    labelled: Path, capsys: pytest.CaptureFixture[str]
):
    settings = labelled / "settings.toml"
    settings.write_text("[augment]  # more of few\ncopies = 1\n")
    asked = ("--share", 0.3, "--settings", settings, "--json", "--method", "grid")
    deletions = ("--range", "augment.deletion=0:0.9", "--only", "augment.deletion")
    app(words(*asked, *deletions, "--write"), standalone_mode=False)
    (row,) = json.loads(capsys.readouterr().out)
    assert row["before"] == {"augment.deletion": 0.1}
    assert [t["settings"]["augment.deletion"] for t in row["trials"]][:1] == [0.1]
    assert {t["settings"]["augment.deletion"] for t in row["trials"]} == {0.1, 0.0, 0.3, 0.6, 0.9}
    best = row["settings"]["augment.deletion"]
    assert best != 0.1
    written = f"[augment]  # more of few\ncopies = 1\ndeletion = {best}\n"
    assert settings.read_text() == f'method = "tfidf"\n{written}'
    app(words(*asked[:2], *deletions[2:], "--settings", settings, "--range", "augment.deletion=0.1,0.9",
              "--json", "-w", "V"), standalone_mode=False)  # fmt: skip
    (again,) = json.loads(capsys.readouterr().out)
    assert again["value_before"] == row["value"]  # as it was written
    for told, wrong in (
        ("augment.deletion=0:3", "classify: augment.deletion cannot be 3"),
        ("augment.deletions=0:1", "'augment.deletions' is not searched"),
        ("dropout=0:0.5", "classify: dropout is none now: name values, as dropout=none,A,B"),
        ("scale=4:8", "'scale' is not searched"),  # of another method
    ):
        with pytest.raises(ContractError, match=wrong):
            app(words("--range", told), standalone_mode=False)


# Pretraining


def test_pretraining_is_tuned_by_what_is_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    text = (
        '[[events]]\npath = "log.csv"\n[pretrain]\nvocabulary = 100\nfactors = 8\nlayers = 1\nheads = 2\n'
        'max_tokens = 16\nepochs = 4\nlearning_rate = 1e-4\nprecision = "float32"\n'
    )
    Path("attune.toml").write_text(text)
    said = [
        f"{who}{what}{n}" for who in ("头痛", "胃痛") for what in ("怎么办", "吃什么药好") for n in range(15)
    ]
    pl.DataFrame({"said": said}).write_csv("corpus.csv")
    told = ["tune", "pretrain", "--file", "corpus.csv", "--text", "said", "-w", "W", "-c", "attune.toml"]
    more = ["--only", "learning_rate", "--only", "layers", "--range", "layers=1:2", "--trials", "4"]
    app([*told, *more, "--write", "--json"], standalone_mode=False)
    found = capsys.readouterr().out
    (row,) = json.loads(found)
    assert (row["source"], row["type"], row["metric"]) == ("pretrain", "mlm", "bits_saved")
    assert row["before"] == {"learning_rate": 1e-4, "layers": 1}
    assert row["value"] > row["value_before"]
    assert sorted(row["trials"][0]["steps"]) == ["1", "2", "3", "4"]
    settings = Workspace("W", "attune.toml").settings.pretrain
    assert {name: getattr(settings, name) for name in row["settings"]} == row["settings"]
    assert not list(Path("W").glob("encoders/*"))
    Path("attune.toml").write_text(text)
    app([*told, *more, "--json", "--memory-gb", "4", "-w", "V"], standalone_mode=False)  # apart
    assert trials(capsys.readouterr().out) == trials(found)
    with pytest.raises(ContractError, match="no column 'text'"):
        app([*told[:4], *told[6:]], standalone_mode=False)
    pl.DataFrame({"said": said[:9]}).write_csv("corpus.csv")
    with pytest.raises(ContractError, match="9 distinct texts are too few to hold out a tenth of them"):
        app(told, standalone_mode=False)


# Fine-tuning

TABLES = """
[pairs]
kinds = ["written", "queries"]
each = 1
[finetune]  # small
model = "{model}"
epochs = 2
batch_size = 32
max_tokens = 16
precision = "float32"
"""


@pytest.fixture
def tuning(workspace: Workspace, tiny_bert: Path) -> Workspace:
    """A finished workspace whose settings tune a very small BERT."""
    config = workspace.folder / "attune.toml"
    config.write_text(config.read_text() + TABLES.format(model=tiny_bert))
    return Workspace(workspace.folder, config)


def test_fine_tuning_is_tuned_beside_a_source(tuning: Workspace, capsys: pytest.CaptureFixture[str]):
    before = tuning.config.read_text()
    told = ["tune", "finetune", "ease", "-w", str(tuning.folder), "--trials", "3", "--json"]
    app([*told, "--write", "--only", "learning_rate", "--only", "l2"], standalone_mode=False)
    rows = json.loads(capsys.readouterr().out)
    assert rows == []  # neither has both settings
    for name, only in (("finetune", "learning_rate"), ("ease", "l2")):
        app(["tune", name, *told[3:], "--write", "--only", only], standalone_mode=False)
        (row,) = json.loads(capsys.readouterr().out)
        assert row["source"] == name
        assert row["value"] >= row["value_before"]
        if name == "finetune":
            assert row["metric"] == "mrr@10"
            rate = row["settings"][only]
    settings = Workspace(tuning.folder, tuning.config).settings
    assert settings.finetune.learning_rate == rate
    assert all(line in tuning.config.read_text() for line in before.splitlines() if line[:3] != "l2 ")
    assert not list(tuning.folder.glob("encoders/*"))  # trials leave nothing behind


def test_fine_tuning_goes_on_and_pairs_after_until_are_not_read(
    tuning: Workspace, monkeypatch: pytest.MonkeyPatch
):
    cut = tuning.snapshot.frame("events")["timestamp"].quantile(0.6)
    narrow = tuning.settings.pairs.model_copy(update={"until": cut})
    more = tuning.settings.finetune.model_copy(update={"validation_share": 0.4})
    tuning.settings = tuning.settings.model_copy(update={"pairs": narrow, "finetune": more})
    config = TuningConfig(trials=3)

    def found(config: TuningConfig = config) -> list[tuple]:
        tuned = tune(Finetuning(tuning, config), tuning.folder, only=["learning_rate"])
        return [(t.settings, t.value, t.steps) for t in tuned.found.tries]

    first = found(config.model_copy(update={"trials": 2}))
    assert found()[:2] == first
    assert len(list((tuning.folder / "tuning").iterdir())) == 1
    plain = found()

    frame = type(tuning.snapshot).frame

    def poisoned(snapshot, name: str) -> pl.DataFrame:
        table = frame(snapshot, name)
        if name not in ("events", "interactions"):
            return table
        late = table["timestamp"] >= cut
        mixed = table.filter(late).with_columns(pl.col("item_id").shuffle(0))
        return pl.concat([table.filter(~late), mixed])

    monkeypatch.setattr(type(tuning.snapshot), "frame", poisoned)
    for kept in (tuning.folder / "tuning").iterdir():
        kept.unlink()
    assert found() == plain


def test_negatives_are_searched_where_there_are_lists_to_draw_them_from(tuning: Workspace):
    assert "negatives" not in Finetuning(tuning, TuningConfig()).space.dimensions
    hard = tuning.settings.pairs.model_copy(update={"hard": "recommendations.parquet"})
    tuning.settings = tuning.settings.model_copy(update={"pairs": hard})
    space = Finetuning(tuning, TuningConfig()).space
    assert {"negatives", "temperature", "learning_rate"} <= set(space.dimensions)
    assert "lora_rank" not in space.dimensions


def test_what_cannot_be_tuned_says_so(tuning: Workspace):
    nothing = tuning.settings.finetune.model_copy(update={"validation_share": 0.0})
    tuning.settings = tuning.settings.model_copy(update={"finetune": nothing})
    with pytest.raises(ContractError, match=r"none to validate by: raise validation_share \(now 0\)"):
        tune(Finetuning(tuning, TuningConfig()), tuning.folder)
