"""`attune finetune` on the sample shop: what it makes, that it goes on after a kill, and that it is read."""

import json
import sys
from pathlib import Path

import pytest

from nlp.encoder import TextEncoder
from profiles import manifest
from profiles.schema import ContractError
from recsys import training
from serving import cli
from serving.finetune import run
from serving.progress import Progress
from serving.settings import TextConfig
from serving.workspace import Workspace

TABLES = """
[pairs]
kinds = ["written", "queries"]
each = 1
hard = "recommendations.parquet"
[finetune]
model = "{model}"
epochs = 2
batch_size = 32
max_tokens = 16
[train]
checkpoint_seconds = 0
"""


@pytest.fixture
def tuning(workspace: Workspace, tiny_bert: Path) -> Workspace:
    """A finished workspace whose settings tune a very small BERT."""
    config = workspace.folder / "attune.toml"
    config.write_text(config.read_text() + TABLES.format(model=tiny_bert))
    return Workspace(workspace.folder, config)


def test_the_command_makes_a_folder_that_text_takes(
    tuning: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["attune", "finetune", "-w", str(tuning.folder), "-c", str(tuning.config)]
    printed = []
    for extra in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", [*arguments, *extra])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        printed.append(capsys.readouterr())
    made = list((tuning.folder / "encoders").iterdir())
    assert len(made) == 1  # the second time it was there already
    assert f'[text]\nmodel = "{made[0]}"' in printed[0].out
    assert "epoch 2 of 2" in printed[0].err
    told = json.loads(printed[1].out)
    assert told["tuned"]["folder"] == str(made[0])
    assert (told["learned"] > 100, told["validated"] > 0) == (True, True)
    assert manifest.verify(made[0])["pairs"] == {
        n: told[k] for n, k in (("learned", "learned"), ("validated", "validated"))
    }
    assert TextEncoder(TextConfig(model=str(made[0]))).encode(["a warm coat"]).any()


def test_a_killed_command_goes_on_to_the_same_bits(
    tuning: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tuning, Progress())
    expected = manifest.verify(whole.tuned.folder)["files"]
    place = whole.tuned.folder.rename(tuning.folder / "kept")
    assert len(expected) > 3
    assert not list((tuning.folder / "cache" / "training").iterdir())  # none is needed any more
    finish = training._Loop._finish

    def killed(self: training._Loop, epoch: int, loss: float, steps: int) -> None:
        finish(self, epoch, loss, steps)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training._Loop, "_finish", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tuning, Progress())
    assert not list((tuning.folder / "encoders").iterdir())
    assert list((tuning.folder / "cache" / "training").iterdir())
    again = run(tuning, Progress())
    assert not list((tuning.folder / "cache" / "training").iterdir())
    assert manifest.verify(again.tuned.folder)["files"] == expected
    assert again.tuned.after == manifest.verify(place)["after"]


def test_what_cannot_be_read_is_named(tuning: Workspace) -> None:
    def settings(**changed: object) -> Workspace:
        opened = Workspace(tuning.folder, tuning.config)
        opened.settings = opened.settings.model_copy(
            update={"pairs": opened.settings.pairs.model_copy(update=changed)}
        )
        return opened

    for changed, said in (
        ({"hard": "gone.parquet"}, r"hard = 'gone\.parquet': there is no file"),
        ({"hard": "attune.toml"}, r"attune\.toml: no Parquet of user_id and item_id"),
        ({"until": tuning.snapshot.as_of.replace(year=1999)}, "0 pairs are too few to learn from"),
    ):
        with pytest.raises(ContractError, match=said):
            run(settings(**changed), Progress())
    assert not (tuning.folder / "encoders").exists()


def test_pretraining_of_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "attune.toml").write_text(
        '[[events]]\npath = "log.csv"\n[pretrain]\n'
        "vocabulary = 100\nfactors = 8\nlayers = 1\nheads = 2\nmax_tokens = 16\nepochs = 1\n"
    )
    texts = "\n".join(f"头痛怎么办{n}" for n in range(20))
    (tmp_path / "corpus.csv").write_text(f"said\n{texts}\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    for column, code in (("said", 0), ("text", 2)):
        arguments = ["pretrain", "corpus.csv", "--column", column, "-c", "attune.toml", "-w", "W"]
        monkeypatch.setattr(sys, "argv", ["attune", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert (end.value.code or 0) == code
        printed = capsys.readouterr()
        assert ("there is no column 'text'" in printed.err) == bool(code)
    (made,) = (tmp_path / "W" / "encoders").iterdir()
    assert TextEncoder(TextConfig(model=str(made))).encode(["头痛"]).shape == (1, 8)
