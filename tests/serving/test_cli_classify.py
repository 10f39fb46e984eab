"""`attune classify`: files in, a sealed folder, predictions and a report out, and what it refuses."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from serving import cli

TFIDF = ("--set", "method=tfidf", "--set", "penalty=0.01")


@pytest.fixture
def attune(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Run a command in this process; returns its code and what it printed."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["attune", "classify", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        told = capsys.readouterr()
        code = end.value.code
        assert "Traceback" not in told.err
        return (code if isinstance(code, int) else 0), told.out + told.err

    return run


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Texts that name their label, one in ten of them wrongly, and an empty one."""
    random = np.random.default_rng(0)
    labels = random.choice(["pay", "fly", "eat"], size=90, p=[0.5, 0.3, 0.2])
    said = np.where(random.random(90) < 0.9, labels, "eat")
    texts = [f"i want to {word} now, number {n}" for n, word in enumerate(said)]
    frame = pl.DataFrame({"id": range(90), "said": [*texts[:-1], ""], "intent": labels})
    frame.with_columns(user=pl.col("id") // 3).write_csv(tmp_path / "texts.csv")
    frame.with_columns(
        several=pl.Series([[label] if n % 4 else [label, "odd"] for n, label in enumerate(labels)])
    ).write_parquet(tmp_path / "texts.parquet")
    return tmp_path


def test_train_predict_and_evaluate(attune: Callable[..., tuple[int, str]], files: Path):
    asked = ("--text", "said", "--label", "intent")
    code, told = attune("train", files / "texts.csv", "-o", files / "made", *asked, *TFIDF)
    assert code == 0
    assert "3 labels from 89 texts, 1 empty ones left out" in told
    plain = ("predict", files / "made", files / "texts.csv", "-o", files / "out.parquet", "--text", "said")
    assert attune(*plain)[0] == 0
    found = pl.read_parquet(files / "out.parquet")
    assert found.columns == ["id", "said", "intent", "user", "predicted", "probability"]
    right = (found["predicted"] == found["intent"]).mean()
    assert right > 0.85
    more = ("--text", "said", "--explain")
    assert attune("predict", files / "made", files / "texts.csv", "-o", files / "why.parquet", *more)[0] == 0
    why = pl.read_parquet(files / "why.parquet")["why"]
    row = next(n for n in range(90) if f"to {found['predicted'][n]} now" in found["said"][n])
    (first,) = why[row]
    weights = {word["word"]: word["weight"] for word in first["words"]}
    assert first["label"] == found["predicted"][row]
    assert weights[first["label"]] > max(weights["want"], weights["to"], 0)
    assert all(found["said"][row][w["start"] : w["end"]] == w["word"] for w in first["words"])
    assert why[89][0]["words"] == []
    code, told = attune(
        "evaluate", files / "made", files / "texts.csv", "-o", files / "report", *asked, "--group", "user"
    )
    assert code == 0
    assert f"{right:.4f}" in told
    names = {path.name for path in (files / "report").iterdir()}
    assert names == {"metrics.json"} | {
        f"{plot}.{kind}" for plot in ("confusion", "reliability") for kind in ("html", "png", "json")
    }
    figures = json.loads((files / "report" / "metrics.json").read_text())
    assert figures["texts"] == 90
    assert {row["label"] for row in figures["figures"]} == {None, "pay", "fly", "eat"}


def test_what_a_classifier_cannot_know_is_told(attune: Callable[..., tuple[int, str]], files: Path):
    asked = ("--text", "said", "--label", "intent")
    attune("train", files / "texts.csv", "-o", files / "made", *asked, *TFIDF)
    known = pl.read_csv(files / "texts.csv").head(20).select("said", "intent")
    new = pl.DataFrame({"said": ["i want to dance", "to sing"], "intent": ["dance", "sing"]})
    pl.concat([known, new]).write_csv(files / "more.csv")
    code, told = attune("evaluate", files / "made", files / "more.csv", "-o", files / "report", *asked)
    assert code == 0
    assert "did not learn, of 2 texts, which it cannot get right: 'dance', 'sing'" in told
    code, told = attune("evaluate", files / "made", files / "texts.csv", "-o", files / "report", *asked)
    assert (code, "did not learn" in told) == (0, False)
    known.with_columns(predicted=pl.lit("fly")).write_csv(files / "taken.csv")
    code, told = attune(
        "predict", files / "made", files / "taken.csv", "-o", files / "out.parquet", "--text", "said"
    )
    assert code == 2
    assert "taken.csv: there is a column 'predicted' already" in told
    assert not (files / "out.parquet").exists()


def test_validation_by_folds_of_whole_groups(attune: Callable[..., tuple[int, str]], files: Path):
    code, told = attune(
        "validate", files / "texts.csv", "-o", files / "report", "--text", "said", "--label", "intent",
        "--group", "user", "--folds", 3, "--repeats", 2, "--json", *TFIDF,
    )  # fmt: skip
    assert code == 0
    figures = {row["metric"]: row for row in json.loads(told)}
    assert figures["accuracy"]["support"] == 180
    assert 0.7 < figures["accuracy"]["low"] < figures["accuracy"]["value"] < 1


def test_several_labels_from_lists_or_a_separator(attune: Callable[..., tuple[int, str]], files: Path):
    train = ("train", files / "texts.parquet", "-o", files / "made", "--text", "said")
    assert attune(*train, "--label", "several", *TFIDF)[0] == 0
    code, _ = attune(
        "predict", files / "made", files / "texts.parquet", "-o", files / "out.parquet", "--text", "said"
    )
    assert code == 0
    assert pl.read_parquet(files / "out.parquet")["predicted"].dtype == pl.List(pl.String)
    (files / "parted.csv").write_text("text,label\nyes,a|b\nno,\nyes,a\nno,c\n")
    code, told = attune(
        "train", files / "parted.csv", "-o", files / "parted", "--separator", "|", *TFIDF, "--json"
    )
    assert code == 0
    assert json.loads(told)["labels"] == ["a", "b", "c"]


def test_mistakes_are_one_line_and_leave_nothing(attune: Callable[..., tuple[int, str]], files: Path):
    (files / "one.csv").write_text("text,label\na,x\nb,x\n")
    (files / "gap.csv").write_text("text,label\na,x\nb,\n")
    (files / "empty.csv").write_text("")
    (files / "none.csv").write_text("text,label\n")
    (files / "broken.parquet").write_bytes(b"PAR1 no")
    (files / "lines.csv").write_text("\n\n")
    (files / "words.txt").write_text("a")
    (files / "old.csv").write_bytes("text,label\nja,x\nschön,y\n".encode("latin-1"))
    (files / "commas.csv").write_text("text,label\nyes,x\nno, never,y\n")
    (files / "quote.csv").write_text('text,label\n"yes,x\nno,y\n')
    pl.DataFrame({"text": [{"a": 1}], "label": ["x"]}).write_parquet(files / "nested.parquet")
    for file, more, message in (
        ("one.csv", (), "there is only one, 'x'"),
        ("gap.csv", (), "row 2 has no label in column 'label'"),
        ("empty.csv", (), "empty.csv is empty"),
        ("none.csv", (), "there are no rows"),
        ("lines.csv", (), "lines.csv: there is nothing but empty lines"),
        ("broken.parquet", (), "broken.parquet is no whole Parquet file"),
        ("words.txt", (), "words.txt: a file is expected whose name ends with one of .csv, .tsv, .parquet"),
        ("nowhere.csv", (), "nowhere.csv cannot be read"),
        ("old.csv", (), "old.csv is not UTF-8: byte 0xf6 at offset 19, line 3; save it as UTF-8"),
        ("commas.csv", (), "commas.csv, row 2 (line 3): 3 fields where the header has 2"),
        ("quote.csv", (), "quote.csv is no ','-separated file"),
        ("nested.parquet", (), "column 'text' holds Struct({'a': Int64}), not text"),
        ("texts.csv", (), "there is no column 'text'; it has id, said, intent, user"),
        ("texts.parquet", ("--text", "id", "--label", "intent"), "column 'id' holds Int64, not text"),
        ("one.csv", ("--set", "epochs"), "NAME=VALUE is expected"),
        ("one.csv", ("--set", "epochs=none"), "epochs: Input should be a valid integer"),
        ("one.csv", ("--set", "encoder.model=/nowhere"), "no folder '/nowhere'"),
        ("one.csv", ("--set", "colour=red"), "colour: Extra inputs are not permitted"),
    ):
        given = TFIDF if not more or more[0] != "--set" else ()
        rows = "text,label\na,x\nb,y\n" if "model" in str(more) else None
        if rows:
            (files / file).write_text(rows)
        code, told = attune("train", files / file, "-o", files / "made", *more, *given)
        assert code == 2, (file, told)
        assert message in told
        assert len(told.strip().splitlines()) == 1
        assert not (files / "made").exists()
    attune("train", files / "texts.csv", "-o", files / "made", "--text", "said", "--label", "intent", *TFIDF)
    again = attune(
        "train", files / "texts.csv", "-o", files / "made", "--text", "said", "--label", "intent", *TFIDF
    )
    assert again[0] == 2
    assert "is there already" in again[1]
    (files / "made" / "member-0" / "words.json").write_text("[]")
    code, told = attune(
        "predict", files / "made", files / "texts.csv", "-o", files / "out.parquet", "--text", "said"
    )
    assert (code, "SHA-256 differs" in told) == (2, True)
    assert not (files / "out.parquet").exists()
    for command, out in (("predict", files), ("evaluate", files / "one.csv")):
        code, told = attune(command, files / "made", files / "one.csv", "-o", out)
        assert (code, "Invalid value for '--out'" in told) == (2, True)
