"""`attune match`: what it says is what the encoder makes of the texts, by the words of either side."""

import json
import sys
from collections.abc import Callable

import pytest

from profiles.schema import ContractError
from serving import cli
from serving.match import match
from serving.workspace import Workspace


@pytest.fixture
def attune(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> Callable[..., tuple[str, str]]:
    def run(*arguments: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["attune", *arguments, "--workspace", str(workspace.folder)])
        capsys.readouterr()
        with pytest.raises(SystemExit):
            cli.main()
        told = capsys.readouterr()
        return told.out, told.err

    return run


def test_a_word_that_both_have_draws_them_near(
    workspace: Workspace, attune: Callable[..., tuple[str, str]]
) -> None:
    texts = workspace.snapshot.frame("texts").filter(owner="item")
    item_id, said = texts.select("id", "text").row(0)
    brand = workspace.snapshot.frame("items").filter(item_id=item_id)["brand"][0]
    asked = f"anything of {brand} please"
    found = json.loads(attune("match", asked, item_id, "--json")[0])
    encoder = workspace.words.encoder
    one, other = encoder.encode([asked]), encoder.encode([said])
    assert found["cosine"] == pytest.approx(float(one[0] @ other[0]), abs=0.01)
    assert found["item"]["text"] == said
    for side, text in (("text", asked), ("item", said)):
        words = found[side]["words"]
        assert all(text[w["start"] : w["end"]] == w["word"] for w in words)
        assert brand in max(words, key=lambda w: w["weight"])["word"]
        whole = sum(w["weight"] for w in words)
        missed = abs(whole - (found[side]["cosine"] - found[side]["baseline"]))
        assert found[side]["error"] == pytest.approx(missed, abs=1e-6)
        assert missed < 0.1
    first, text, item = attune("match", asked, item_id)[0].splitlines()
    assert first == f"cosine {found['cosine']:.3f}"
    assert text.startswith(f"text: {brand} +")
    assert "integrated gradients" in item


def test_what_says_nothing_is_told(workspace: Workspace, attune: Callable[..., tuple[str, str]]) -> None:
    assert "no text of an item 'i9999'" in attune("match", "a chair", "i9999")[1]
    with pytest.raises(ContractError, match="the text holds no words"):
        match(workspace, "  ", "i0001")
