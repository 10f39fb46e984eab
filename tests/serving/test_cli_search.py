"""`attune rerank` and `attune search`: what words find is put in order by a cross-encoder, and limits."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from nlp.cross_encoder import CrossEncoder, CrossEncoderConfig
from profiles import manifest
from profiles.schema import ContractError
from recsys import training
from serving import cli
from serving.progress import Progress
from serving.search import learn, search
from serving.workspace import Workspace

ILLS = ["gout", "flu", "asthma", "measles", "anaemia", "scurvy", "cholera", "rabies", "mumps", "malaria"]
KNOWN = ILLS[:7]  # to learn from; who asks of the others asks of what was never read
CONFIG = """
[[events]]
path = "log.csv"
[pairs.file]
path = "pairs.csv"
left = "question"
right = "answer"
[rerank]
model = "{model}"
max_tokens = 24
mined = 5
batch_size = 4
epochs = 15
learning_rate = 3e-3
precision = "float32"
validation_share = {share}
[train]
checkpoint_seconds = 0
[search]
by = "words"
reread = 2
"""


def asked(ill: str) -> list[tuple[str, str]]:
    """Two questions of an ill with their answers, which words alone cannot tell apart."""
    return [
        (f"what brings {ill}", f"{ill} comes of bad food"),
        (f"what is {ill} treated with", f"{ill} wants rest and tea"),
    ]


def folder_of(made: Path, new_bert: Path, share: float = 0.0, ills: list[str] = KNOWN) -> Path:
    """Write a configuration, pairs of some ills, and the answers of all."""
    made.mkdir(exist_ok=True)
    (made / "attune.toml").write_text(CONFIG.format(model=new_bert, share=share))
    pairs = pl.DataFrame([pair for ill in ills for pair in asked(ill)], ["question", "answer"], orient="row")
    pairs.write_csv(made / "pairs.csv")
    said = ["", *(answer for ill in ILLS for _, answer in asked(ill)), asked("gout")[0][1]]
    pl.DataFrame({"said": said}).write_csv(made / "answers.csv")
    return made


@pytest.fixture(scope="module")
def ills(tmp_path_factory: pytest.TempPathFactory, new_bert: Path) -> Path:
    """A folder in which a cross-encoder was trained; not to be written to."""
    made = folder_of(tmp_path_factory.mktemp("ills"), new_bert)
    learn(Workspace(made / "W", made / "attune.toml"), Progress())
    return made


@pytest.fixture
def attune(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[str, str]]:
    """`attune(folder, …)` is what the command prints, typed in that folder, and what it complains of."""

    def run(folder: Path, *arguments: object) -> tuple[str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["attune", *map(str, arguments), "-w", "W"])
        capsys.readouterr()
        with pytest.raises(SystemExit):
            cli.main()
        told = capsys.readouterr()
        return told.out, told.err

    return run


def reader_of(ills: Path) -> Path:
    (made,) = (ills / "W" / "encoders").iterdir()
    return made


def test_what_words_cannot_tell_apart_is_put_in_order(
    ills: Path, attune: Callable[..., tuple[str, str]]
) -> None:
    """About ills that training never read; the scores are the cross-encoder's own of each pair."""
    reader, found = reader_of(ills), {}
    for ill in ILLS[7:]:
        question = asked(ill)[1][0]
        told = ["search", question, "--file", "answers.csv", "--column", "said", "-k", 2, "--json"]
        by_words = json.loads(attune(ills, *told)[0])
        mended = json.loads(attune(ills, *told, "--reader", reader)[0])
        assert [row["row"] for row in by_words] == [2 * ILLS.index(ill) + n for n in (1, 2)]
        assert [row["text"] for row in mended] == [answer for _, answer in asked(ill)[::-1]]
        found |= {(question, row["text"]): row["score"] for row in mended}
    scores = CrossEncoder(reader, CrossEncoderConfig()).scores(*zip(*found, strict=True))
    assert list(found.values()) == pytest.approx(scores.tolist(), rel=1e-2)


def test_the_commands_for_people(
    ills: Path, new_bert: Path, tmp_path: Path, attune: Callable[..., tuple[str, str]]
) -> None:
    made = folder_of(tmp_path / "new", new_bert, share=0.3)
    out, err = attune(made, "rerank")
    (reader,) = (made / "W" / "encoders").iterdir()
    about = manifest.verify(reader)
    counts = about["pairs"]
    assert counts["validated"] > 0
    assert f"{counts['learned']} pairs to learn from, {counts['validated']} to validate by" in err
    assert f"{about['before']:.4f} before, {about['after']:.4f} after" in out
    assert out.endswith(f'[search.reader]\nmodel = "{reader.resolve()}"\n')
    assert json.loads(attune(made, "rerank", "--json")[0])["trained"]["folder"] == f"W/encoders/{reader.name}"

    with (made / "attune.toml").open("a") as config:  # as it says
        config.write(f'[search.reader]\nmodel = "{reader_of(ills)}"\n')
    told = ["search", asked("mumps")[1][0], "--file", "answers.csv", "--column", "said"]
    first, second = attune(made, *told, "-k", 2, "-c", "attune.toml")[0].splitlines()
    assert first.split()[0] == "1"
    assert first.endswith("row 18  mumps wants rest and tea")
    assert second.endswith("row 17  mumps comes of bad food")
    assert attune(made, *told[:1], "zebras", *told[2:])[0] == "nothing answers it: no word is known\n"


def test_a_killed_training_goes_on_to_the_same_bits(
    ills: Path, new_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = folder_of(tmp_path / "killed", new_bert)
    workspace = Workspace(made / "W", made / "attune.toml")
    finish, epochs = training._Loop._finish, []

    def killed(self: training._Loop, epoch: int, loss: float, steps: int) -> None:
        finish(self, epoch, loss, steps)
        epochs.append(epoch)
        if len(epochs) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(training._Loop, "_finish", killed)
    with pytest.raises(KeyboardInterrupt):
        learn(workspace, Progress())
    assert not (made / "W" / "encoders").exists()
    again = learn(workspace, Progress()).trained.folder
    assert epochs == list(range(1, 16))  # none twice
    assert manifest.verify(again)["files"] == manifest.verify(reader_of(ills))["files"]
    assert not list((made / "W" / "cache" / "training").iterdir())


def test_items_are_searched_as_they_are_on_offer(workspace: Workspace) -> None:
    """By words, vectors and both; what somebody wrote moves what is near, not what shares a word."""
    config = workspace.settings.search
    texts = workspace.snapshot.frame("texts")
    brand = workspace.snapshot.frame("items")["brand"].drop_nulls()[0]
    found = search(workspace, f"anything of {brand}", 5, config)
    assert found.columns == ["rank", "score", "text", "item_id"]
    assert found["rank"].to_list() == [1, 2, 3, 4, 5]
    assert brand in found["text"][0]
    said = dict(texts.filter(owner="item").select("id", "text").iter_rows())
    assert [said[item] for item in found["item_id"]] == found["text"].to_list()
    vectors = config.model_copy(update={"by": "vectors", "context": 0.9})
    who = texts.filter(owner="user")["id"][0]
    alone, told = (search(workspace, "a gift", 50, vectors, user_id=user) for user in (None, who))
    assert set(told["item_id"]) != set(alone["item_id"])
    catalogue = workspace.snapshot.frame("items")
    gone = catalogue.filter(pl.col("available_from") > workspace.snapshot.as_of)["item_id"]
    every = search(workspace, "a gift", 500, vectors)["item_id"]
    assert not set(gone) & set(every)
    assert len(every) == len(said) - len(gone)


def test_a_text_cannot_reach_into_the_terminal(
    ills: Path, tmp_path: Path, attune: Callable[..., tuple[str, str]]
) -> None:
    pl.DataFrame({"text": ["gout\x1b[2J\x00 \u202etuog", "other words", "nothing"]}).write_parquet(
        tmp_path / "odd.parquet"
    )
    asked = ["search", "gout", "--file", tmp_path / "odd.parquet", "--by", "words"]
    shown, _ = attune(ills, *asked)
    assert shown.rstrip().endswith("gout\ufffd[2J\ufffd \ufffdtuog")
    assert json.loads(attune(ills, *asked, "--json")[0])[0]["text"] == "gout\x1b[2J\x00 \u202etuog"


def test_what_is_wrong_is_told(
    ills: Path,
    new_bert: Path,
    workspace: Workspace,
    tmp_path: Path,
    attune: Callable[..., tuple[str, str]],
) -> None:
    told = ["search", "gout", "--file", "answers.csv", "--column", "said"]
    assert "there is no folder" in attune(ills, *told, "--reader", "gone")[1]
    assert "`attune rerank` makes a cross-encoder" in attune(ills, *told, "--reader", "gone")[1]
    assert "no cross-encoder of one output; `attune rerank` makes one" in " ".join(
        attune(ills, *told, "--reader", new_bert)[1].split()
    )
    shutil.copytree(reader_of(ills), tmp_path / "changed")
    (tmp_path / "changed" / "config.json").write_text("{}")
    complaint = attune(ills, *told, "--reader", tmp_path / "changed")[1]
    assert "config.json: its content is not what was published" in " ".join(complaint.split())
    assert "search: by: input should be 'words', " in attune(ills, *told, "--by", "luck")[1]
    assert "no column 'text'; it has said" in attune(ills, *told[:4])[1]
    assert "none.csv cannot be read" in attune(ills, *told[:3], "none.csv")[1]
    (tmp_path / "old.csv").write_bytes("text\nschön\n".encode("latin-1"))
    assert "save it as UTF-8" in " ".join(attune(ills, *told[:3], tmp_path / "old.csv")[1].split())
    pl.DataFrame({"text": [["gout"]]}).write_parquet(tmp_path / "lists.parquet")
    assert "holds List(String), not text" in attune(ills, *told[:3], tmp_path / "lists.parquet")[1]
    assert "says nothing" in attune(ills, "search", " ", *told[2:])[1]

    few = folder_of(tmp_path / "few", new_bert, ills=[])
    assert "0 pairs are too few to learn from" in attune(few, "rerank")[1]
    assert not list((few / "W").glob("encoders/*"))
    with (few / "attune.toml").open("a") as config:
        config.write('[search.reader]\nmodel = "gone"\n')
    line = len((few / "attune.toml").read_text().splitlines())
    assert f"line {line}: there is no folder" in attune(few, *told, "-c", "attune.toml")[1]
    nobody = "the newest snapshot knows of nothing that 'nobody' wrote"
    with pytest.raises(ContractError, match=nobody):
        search(workspace, "gout", 3, workspace.settings.search, user_id="nobody")
