"""Cross-encoders: the score of a pair is its own, training mends what shared words get wrong, and limits."""

import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nlp import layerwise
from nlp.coding import coded
from nlp.cross_encoder import CrossEncoder, CrossEncoderConfig
from nlp.explain import pair_reasons
from nlp.pairs import PAIRS
from nlp.rerank import RerankConfig, Trained, candidates, mine, train
from nlp.retrieval import Index, RetrievalConfig
from profiles import manifest
from profiles.schema import ContractError

ILLS = ["gout", "flu", "asthma", "measles", "anaemia", "scurvy", "cholera", "rabies", "mumps", "malaria"]
CURES = ["rest", "water", "pills", "tea"]
FLOAT32 = CrossEncoderConfig(precision="float32")


def question(ill: str) -> str:
    return f"how is {ill} treated"


def answer(ill: str) -> str:
    return f"{ill}: take {CURES[ILLS.index(ill) % 4]}"


def echo(ill: str) -> str:
    """All the words of the question, and no answer."""
    return f"how is {ill} treated, nobody knows how {ill} is treated"


def pairs(ills: list[str]) -> pl.DataFrame:
    return PAIRS.conform(pl.DataFrame({"left": map(question, ills), "right": map(answer, ills)}))


ECHOES = [echo(ill) for ill in ILLS]


def config(new_bert: Path, **settings: object) -> RerankConfig:
    quick = {
        "model": str(new_bert),
        "max_tokens": 40,
        "mined": 5,
        "batch_size": 4,
        "epochs": 12,
        "seed": 5,
    }
    return RerankConfig.model_validate(quick | {"learning_rate": 3e-3, "precision": "float32"} | settings)


@pytest.fixture(scope="module")
def trained(new_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(pairs(ILLS[:7]), pairs(ILLS[7:]), config(new_bert), tmp_path_factory.mktemp("made"), ECHOES)


def test_a_pairs_score_is_its_own(trained: Trained) -> None:
    """Whatever it is padded with and read beside; the oracle is transformers on that pair alone."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    left = ["how is gout treated", "flu?", "how " * 60, "a", "", "mumps", "🙂 مرحبا"]
    right = ["gout: take rest", "how is flu treated, nobody knows", "flu", "b " * 90, "flu", "  ", "rabies"]
    reader = CrossEncoder(trained.folder, FLOAT32)
    told: list[int] = []
    found = reader.scores(left, right, told.append)
    assert sum(told) == len(left)
    assert np.isnan(found).tolist() == [False] * 4 + [True] * 2 + [False]
    tokenizer = AutoTokenizer.from_pretrained(trained.folder)
    model = AutoModelForSequenceClassification.from_pretrained(trained.folder).eval()
    for n in np.flatnonzero(~np.isnan(found)):
        read = tokenizer(left[n], right[n], truncation="longest_first", max_length=64, return_tensors="pt")
        with torch.no_grad():
            alone = float(model(**read).logits[0, 0])
        assert found[n] == pytest.approx(alone, abs=1e-5)
        assert reader.scores([left[n]], [right[n]])[0] == pytest.approx(alone, abs=1e-5)
    swapped = reader.scores(right[:2], left[:2])
    assert not np.allclose(swapped, found[:2]), "which text asks and which answers makes a difference"
    assert reader.scores([], []).shape == (0,)


def test_shared_words_mislead_and_the_reader_mends_it(trained: Trained) -> None:
    """On questions of ills that training never saw."""
    texts = [*ECHOES, *map(answer, ILLS)]
    index = Index.of(texts, config=RetrievalConfig(reread=4))
    asked = [question(ill) for ill in ILLS[7:]]
    by_words = index.search(asked, k=2)
    assert by_words.filter(rank=1)["text"].to_list() == [7, 8, 9]  # the echoes
    reader = CrossEncoder(trained.folder, FLOAT32)
    mended = index.search(asked, k=2, reader=reader)
    assert mended.filter(rank=1)["text"].to_list() == [17, 18, 19]
    scores = reader.scores(asked, [texts[row] for row in (17, 18, 19)])
    assert mended.filter(rank=1)["score"].to_list() == pytest.approx(scores.tolist(), rel=1e-4)
    assert trained.before is not None
    assert trained.before < 0.5, "it does not begin with the answers first"
    assert trained.after == 1


def test_the_words_that_drove_a_pair(trained: Trained) -> None:
    """Words of one side at a time, the other held; nothing of the score is lost."""
    reader, asked = CrossEncoder(trained.folder, FLOAT32), question("mumps")
    for given in (echo("mumps"), answer("mumps")):
        for of, text in (("left", asked), ("right", given)):
            found = pair_reasons(reader, asked, given, "left" if of == "left" else "right")
            assert found.score == pytest.approx(reader.scores([asked], [given])[0], abs=1e-5)
            assert found.error < 0.01 * abs(found.score - found.baseline) + 1e-6
            assert [text[s.start : s.end] for s in found.spans] == re.findall(r"\w+|[,:]", text)
    weights = {given[s.start : s.end]: s.weight for s in found.spans}
    assert max(weights, key=lambda word: weights[word]) == "rest"
    told = pair_reasons(reader, asked, echo("mumps"), "right").spans
    only = sum(s.weight for s in told if echo("mumps")[s.start : s.end] in (",", "nobody", "knows"))
    assert only < min(0, sum(s.weight for s in told) - only)
    assert pair_reasons(reader, asked, "", "right").spans == ()


def test_only_the_first_places_are_read_again() -> None:
    class Backwards:
        """Likes the later text better, and cannot say anything of an `x`."""

        def __init__(self) -> None:
            self.read: list[tuple[str, str]] = []

        def scores(self, left: list[str], right: list[str]) -> np.ndarray:
            self.read += zip(left, right, strict=True)
            return np.array([np.nan if "x" in text else len(text) for text in right], np.float32)

    texts = ["a", "a b", "a b c", "a b c d", "a x", "z"]
    reader = Backwards()
    found = Index.of(texts, config=RetrievalConfig(reread=3)).search(["a", "q"], k=2, reader=reader)
    assert set(reader.read) == {("a", "a"), ("a", "a b"), ("a", "a x")}  # the shortest, by BM25
    assert found.select("query", "text", "rank").rows() == [(0, 1, 1), (0, 0, 2)]
    whole = Index.of(texts, config=RetrievalConfig(reread=1)).search(["a"], k=9, reader=Backwards())
    assert whole["text"].to_list() == [3, 2, 1, 0]


def test_mined_texts_are_those_words_find_and_none_is_right() -> None:
    asked = ["how is flu treated", "how is flu treated", "gout"]
    told = pl.DataFrame({"left": asked, "right": ["flu: rest", "treated flu: tea", "gout gout"]})
    learned = coded(PAIRS.conform(told))
    texts, mined = mine(learned, ["how is flu", "nothing", "flu: rest"], 4)
    named = [[texts[code] for code in row if code >= 0] for row in mined]
    assert named[2] == []
    assert set(named[0]) == set(named[1]) == {"how is flu"}  # both answers are right, whichever asks
    settings = RerankConfig(negatives=2, others=3)
    rows = np.array([0, 2, 1])
    drawn = candidates(learned, mined, rows, settings, np.random.default_rng(0))
    assert drawn.shape == (3, 6)
    assert drawn[:, 0].tolist() == learned.right[rows].tolist()
    for row, codes in zip(rows, drawn, strict=True):
        wrong = {texts[code] for code in codes[1:] if code >= 0}
        assert wrong <= ({"flu: rest", "treated flu: tea"} if row == 2 else {"how is flu", "gout gout"})
    assert (drawn[0, 1:] >= 0).any()


def test_what_lies_over_the_model_learns_faster(new_bert: Path) -> None:
    from nlp.cross_network import NEW, load

    _, network = load(new_bert, begin=True)
    rates = {id(p): g.rate for g in layerwise.groups(network, 0.5, 10.0, NEW) for p in g.parameters}
    found = {name: rates[id(p)] for name, p in network.named_parameters()}
    assert {n.split(".")[-2]: r for n, r in found.items() if r == 10} == {"classifier": 10, "dense": 10}
    assert found["body.bert.pooler.dense.weight"] == 10
    assert found["body.bert.encoder.layer.1.output.dense.weight"] == 1
    assert found["body.bert.encoder.layer.0.output.dense.weight"] == 0.5
    assert found["body.bert.embeddings.word_embeddings.weight"] == 0.25


def test_the_folder_is_sealed_named_by_its_inputs_and_made_once(
    trained: Trained, new_bert: Path, tmp_path: Path
) -> None:
    about = manifest.verify(trained.folder)
    assert (about["producer"], about["pairs"]) == ("rerank", {"learned": 7, "validated": 3})
    again = train(pairs(ILLS[:7]), pairs(ILLS[7:]), config(new_bert), trained.folder.parent, ECHOES)
    assert again == trained
    quick = config(new_bert, epochs=1)
    one, other = (
        train(pairs(ILLS[:4]), pairs([]), quick, tmp_path / name, ECHOES[:2]).folder for name in "ab"
    )
    assert one.name == other.name != trained.folder.name
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert CrossEncoder(one).scores(["a"], ["b"]).shape == (1,)


def test_what_is_wrong_is_told(trained: Trained, new_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="1 pairs are too few"):
        train(pairs(ILLS[:1]), pairs([]), config(new_bert), tmp_path)
    scored = pairs(ILLS).with_columns(score=pl.lit(0.5, pl.Float32))
    with pytest.raises(ContractError, match="pairs with scores are for"):
        train(scored, pairs([]), config(new_bert), tmp_path)
    with pytest.raises(ContractError, match="told from no other"):
        train(pairs(ILLS), pairs([]), config(new_bert, negatives=0, others=0), tmp_path)
    with pytest.raises(ContractError, match=r"weights are missing .* no cross-encoder of one output"):
        CrossEncoder(new_bert).scores(["a"], ["b"])
    shutil.copytree(trained.folder, tmp_path / "changed")
    (tmp_path / "changed" / "config.json").write_text("{}")
    with pytest.raises(ContractError, match=r"config\.json: its content is not what was published"):
        CrossEncoder(tmp_path / "changed")
    assert not list(tmp_path.glob("reranker-*"))
