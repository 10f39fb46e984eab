"""Fine-tuning brings together what belongs together, goes on after a kill to the same bits, and says no."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from nlp import layerwise
from nlp.encoder import EncoderConfig, TextEncoder
from nlp.finetune import FinetuneConfig, finetune
from nlp.folder import Recipe
from nlp.network import TextNetwork, begin
from nlp.pairs import PAIRS
from profiles import manifest
from profiles.schema import ContractError
from recsys import watch

WORDS = {
    "red apple": "sour fruit",
    "old boat": "blue sea",
    "warm coat": "cold winter",
    "loud drum": "good band",
    "small dog": "long walk",
    "green tea": "hot cup",
}


def pairs(times: int = 8) -> pl.DataFrame:
    rows = [(f"{left} {n}", right) for n in range(times) for left, right in WORDS.items()]
    return PAIRS.conform(pl.DataFrame(rows, schema=["left", "right"], orient="row"))


def graded() -> pl.DataFrame:
    """Texts about the same thing score 1, others 0 or, where both begin alike, .5."""
    names = list(WORDS)
    rows = [(f"{a} one", f"{b} two", 1.0 if a == b else 0.5 if ord(a[0]) % 2 == ord(b[0]) % 2 else 0.0)
            for a in names for b in names]  # fmt: skip
    return PAIRS.conform(pl.DataFrame(rows, schema=["left", "right", "score"], orient="row"))


@pytest.fixture
def config(tiny: Path) -> FinetuneConfig:
    return FinetuneConfig(
        model=str(tiny), epochs=6, batch_size=16, learning_rate=0.01, chunk_tokens=64, precision="float32"
    )


def weights(folder: Path) -> dict[str, str]:
    return dict(manifest.verify(folder)["files"])


def test_pairs_come_to_lie_near_each_other(config: FinetuneConfig, tmp_path: Path) -> None:
    held = pairs(9).tail(6)  # the ninth time each is said
    tuned = finetune(pairs(), held, config, tmp_path / "made")
    assert tuned.metric == "mrr@10"
    assert tuned.before < 0.7 < 0.9 < tuned.after
    encoder = TextEncoder(EncoderConfig(model=str(tuned.folder), precision="float32"))
    left, right = encoder.encode(held["left"].to_list()), encoder.encode(held["right"].to_list())
    assert (np.argmax(left @ right.T, axis=1) == np.arange(6)).mean() > 0.8
    told = manifest.read(tuned.folder)
    assert told["pairs"] == {"learned": 48, "validated": 6}
    assert (told["after"], len(told["losses"])) == (tuned.after, 6)
    before = weights(tuned.folder)
    assert finetune(pairs(), held, config, tmp_path / "made") == tuned  # what is there is not made again
    assert weights(tuned.folder) == before


@pytest.mark.parametrize("objective", ["auto", "regression"])
def test_graded_pairs_come_into_their_order(config: FinetuneConfig, tmp_path: Path, objective: str) -> None:
    config = config.model_copy(update={"objective": objective, "epochs": 12})
    tuned = finetune(graded(), graded(), config, tmp_path)
    assert tuned.metric == "spearman"
    assert tuned.after > max(0.8, tuned.before + 0.1)


def test_a_killed_run_goes_on_to_the_same_bits(config: FinetuneConfig, tmp_path: Path) -> None:
    """Killed in each of the three phases in turn, with drawn negatives, dropout, sizes and a new head."""
    hard = pl.DataFrame({"user_id": ["u"] * 3, "text": ["rain", "snow", "hail"]})
    owned = pairs().with_columns(user_id=pl.lit("u"))
    changed = {"mlm_epochs": 2, "simcse_epochs": 2, "epochs": 3, "pooling": "attention", "projection": 12}
    config = config.model_copy(update=changed | {"sizes": (4,), "patience": 3})
    whole = finetune(owned, graded().head(0), config, tmp_path / "whole", hard=hard)

    class Killed(Exception):
        pass

    told: list[watch.Progress] = []

    def kill(progress: watch.Progress) -> None:
        told.append(progress)
        if len(told) in (1, 3, 5):
            raise Killed

    place = tmp_path / "resumed"
    for _ in range(3):
        with pytest.raises(Killed), watch.watching(kill, tmp_path / "kept", every=0):
            finetune(owned, graded().head(0), config, place, hard=hard)
        assert not list(place.glob("*"))
    with watch.watching(kill, tmp_path / "kept", every=0):
        resumed = finetune(owned, graded().head(0), config, place, hard=hard)
    assert len(told) == 7  # each epoch of each phase once
    assert weights(resumed.folder) == weights(whole.folder)
    assert (resumed.before, resumed.after) == (None, None)


def test_the_same_run_again_is_the_same_bits_and_another_seed_another_folder(
    config: FinetuneConfig, tmp_path: Path
) -> None:
    none = pairs().head(0)
    config = config.model_copy(update={"epochs": 1})
    first = finetune(pairs(2), none, config, tmp_path / "a")
    assert weights(finetune(pairs(2), none, config, tmp_path / "b").folder) == weights(first.folder)
    other = finetune(pairs(2), none, config.model_copy(update={"seed": 1}), tmp_path / "a")
    assert other.folder != first.folder
    assert weights(other.folder) != weights(first.folder)


def test_lora_is_merged_and_the_head_alone_leaves_the_body(config: FinetuneConfig, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    pytest.importorskip("peft")
    held = pairs(9).tail(6)
    found = {}
    for method in ("lora", "head"):
        settings = config.model_copy(update={"method": method, "projection": 8, "lora_rank": 4})
        tuned = finetune(pairs(), held, settings, tmp_path)
        assert tuned.after > tuned.before
        found[method] = load_file(tuned.folder / "model.safetensors")
        assert TextEncoder(EncoderConfig(model=str(tuned.folder))).encode(["red apple"]).shape == (1, 8)
    _, begun = begin(Path(config.model), Recipe())
    start = {name.removeprefix("body."): value for name, value in begun.state_dict().items()}
    assert set(found["lora"]) == set(found["head"]) == set(start)  # nothing of LoRA's own is left
    assert all(torch.equal(value, start[name]) for name, value in found["head"].items())
    moved = {name for name, value in found["lora"].items() if not torch.equal(value, start[name])}
    assert moved
    assert all(name.endswith("weight") and "LayerNorm" not in name for name in moved)


def test_layers_learn_slower_the_deeper_they_lie() -> None:
    from transformers import BertConfig, BertModel

    shape = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 8}
    network = TextNetwork(BertModel(BertConfig(vocab_size=20, **shape)), Recipe(projection=4))
    groups = layerwise.groups(network, layer_decay=0.5, head_rate=7.0)
    of = {id(p): (group.rate, group.decay) for group in groups for p in group.parameters}
    rates = {name: of[id(p)] for name, p in network.named_parameters()}
    expected = {
        "projection.weight": (7.0, 1.0),
        "body.encoder.layer.2.output.dense.weight": (1.0, 1.0),
        "body.encoder.layer.2.output.dense.bias": (1.0, 0.0),
        "body.encoder.layer.1.output.LayerNorm.weight": (0.5, 0.0),
        "body.encoder.layer.0.attention.self.query.weight": (0.25, 1.0),
        "body.embeddings.word_embeddings.weight": (0.125, 1.0),
        "body.embeddings.LayerNorm.bias": (0.125, 0.0),
    }
    assert expected.items() <= rates.items()
    assert sum(len(group.parameters) for group in groups) == len(rates)
    nn.Module.requires_grad_(network.body, False)
    assert [len(group.parameters) for group in layerwise.groups(network)] == [1]


def test_what_cannot_be_learned_says_so(config: FinetuneConfig, tmp_path: Path) -> None:
    none = pairs().head(0)
    mixed = pl.concat([graded(), pairs()])

    def refused(train: pl.DataFrame, said: str, **changed: object) -> None:
        with pytest.raises(ContractError, match=said):
            finetune(train, none, config.model_copy(update=changed), tmp_path / "made")

    refused(none, "0 pairs are too few to learn from")
    refused(mixed, "36 of 84 pairs have a score: give all of them one, or none")
    refused(pairs(), 'cosent" is for pairs with scores', objective="cosent")
    refused(graded(), 'info_nce" is for pairs without scores', objective="info_nce")
    refused(pairs(), 'method = "head" learns only what lies over the model', method="head")
    refused(pairs(), "sizes = .*: 16 is not below the vector's 16", sizes=(16,))
    refused(pairs(), "is not on this machine", model="no/such")
    assert not list((tmp_path / "made").glob("*"))


def test_odd_texts_are_learned_from_too(config: FinetuneConfig, tmp_path: Path) -> None:
    odd = ["🍕🎉 great!!!", "مرحبا بالعالم", "long " * 20_000, "שלום עולם tea", "\u200b", "\x00\x07 bell"]
    train = PAIRS.conform(pl.DataFrame({"left": odd[:3], "right": odd[3:]}))
    tuned = finetune(train, train, config.model_copy(update={"epochs": 1}), tmp_path)
    assert np.isfinite(manifest.read(tuned.folder)["losses"]).all()
    assert np.isfinite(tuned.after)


def test_the_tuned_folder_is_refused_once_it_changed(config: FinetuneConfig, tmp_path: Path) -> None:
    tuned = finetune(pairs(2), pairs().head(0), config.model_copy(update={"epochs": 1}), tmp_path / "made")
    copied = tmp_path / "copied"
    shutil.copytree(tuned.folder, copied)
    (copied / "attune.json").write_text('{"pooling": "cls"}')
    with pytest.raises(ContractError, match=r"attune\.json: its content is not what was published"):
        TextEncoder(EncoderConfig(model=str(copied)))
    (copied / "attune.json").unlink()
    with pytest.raises(ContractError, match=r"attune\.json: missing, though the manifest names it"):
        TextEncoder(EncoderConfig(model=str(copied)))
