"""A BERT from nothing: hidden tokens as they should be, a language learned, the same bits after a kill."""

from pathlib import Path

import numpy as np
import pytest

from nlp.encoder import EncoderConfig, TextEncoder
from nlp.masking import MaskedLanguage, bits_saved, hide
from nlp.pretrain import PretrainConfig, pretrain, tokenizer_of
from profiles import manifest
from profiles.schema import ContractError
from recsys import watch

TEXTS = [
    f"{who}{what}{n}"
    for who in ("头痛", "胃痛", "发烧")
    for what in ("怎么办", "吃什么药好")
    for n in range(12)
]
CONFIG = PretrainConfig(
    vocabulary=100, factors=16, layers=1, heads=2, max_tokens=16, epochs=12, batch_size=8,
    learning_rate=5e-3, precision="float32",
)  # fmt: skip


def test_tokens_are_hidden_in_the_shares_of_bert() -> None:
    random = np.random.default_rng(0)
    ids = random.integers(5, 1000, (400, 50))
    may = np.ones(ids.shape, bool)
    may[:, 0] = False
    may[7, 3:] = False  # two places only
    may[9] = False  # none
    changed, hidden = hide(ids, may, 0.15, 4, 1000, random)
    assert not hidden[~may].any()
    assert hidden.any(axis=1).sum() == 399  # each text that can has one
    assert np.array_equal(changed[~hidden], ids[~hidden])
    assert hidden[may].mean() == pytest.approx(0.15, abs=0.01)
    assert (changed[hidden] == 4).mean() == pytest.approx(0.8, abs=0.02)
    assert (changed[hidden] == ids[hidden]).mean() == pytest.approx(0.1, abs=0.02)


def test_chinese_characters_are_tokens_of_their_own() -> None:
    tokenizer = tokenizer_of(TEXTS, 100, 16)
    assert tokenizer.tokenize("头痛怎么办") == list("头痛怎么办")
    assert tokenizer("头痛")["input_ids"][0] == tokenizer.cls_token_id
    assert tokenizer.tokenize("𠀀é") == ["[UNK]", "[UNK]"]


def test_the_same_texts_make_the_same_tokenizer() -> None:
    texts = [
        *TEXTS,
        *(f"un{stem}{end} re{stem}" for stem in ("play", "read", "work") for end in ("ing", "er")),
    ]
    found = {tokenizer_of(texts, 110, 16).backend_tokenizer.to_str() for _ in range(8)}
    assert len(found) == 1


def test_it_learns_and_is_an_encoder(tmp_path: Path) -> None:
    place = pretrain([*TEXTS, "", "  ", TEXTS[0]], CONFIG, tmp_path)
    told = manifest.verify(place)
    assert told["texts"] == len(TEXTS)
    assert told["losses"][-1] < 0.6 * told["losses"][0]
    encoder = TextEncoder(EncoderConfig(model=str(place), precision="float32"))
    assert (encoder.dimension, encoder.max_tokens) == (16, 16)
    assert np.isfinite(encoder.encode(["头痛怎么办", "🍕", "مرحبا", "long " * 20_000])).all()
    before = manifest.read(place)["files"]
    assert pretrain(TEXTS, CONFIG, tmp_path) == place
    assert manifest.read(place)["files"] == before


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"epochs": 3})
    whole = pretrain(TEXTS, config, tmp_path / "whole")

    def kill(progress: watch.Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), watch.watching(kill, tmp_path / "kept", every=0):
        pretrain(TEXTS, config, tmp_path / "resumed")
    with watch.watching(checkpoints=tmp_path / "kept"):
        resumed = pretrain(TEXTS, config, tmp_path / "resumed")
    assert manifest.verify(resumed)["files"] == manifest.verify(whole)["files"]


def test_too_little_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="1 distinct texts are too few"):
        pretrain(["头痛", "头痛", " "], CONFIG, tmp_path)
    with pytest.raises(ContractError, match="factors = 16 is no multiple of heads = 3"):
        pretrain(TEXTS, CONFIG.model_copy(update={"heads": 3}), tmp_path)


def test_bits_saved_are_those_of_a_slow_account() -> None:
    """Whatever a text is batched with; a word without pieces saves nothing, and chance what it must."""
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = tokenizer_of(TEXTS, 100, 16)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    torch.manual_seed(3)
    body = BertModel(BertConfig(vocab_size=len(tokenizer), **shape), add_pooling_layer=False)
    module = MaskedLanguage(body).eval()
    torch.nn.init.normal_(module.bias)
    alphabet = len({*"".join(TEXTS)})
    for text in ("头痛怎么办", "胃痛吃什么药好1", "头痛é怎么办"):
        random = np.random.default_rng(0)
        ids = tokenizer(text)["input_ids"]
        pieces = tokenizer.convert_ids_to_tokens(ids)
        hidden = (random.random((1, len(ids)))[0] < 0.15) & ~np.isin(pieces, ["[CLS]", "[SEP]"])
        asked = torch.tensor(
            [[tokenizer.mask_token_id if h else i for i, h in zip(ids, hidden, strict=True)]]
        )
        with torch.no_grad():
            states = body(input_ids=asked).last_hidden_state
            states = module.norm(torch.nn.functional.gelu(module.dense(states)))
            scores = states @ body.get_input_embeddings().weight.T + module.bias
            bits = -torch.log_softmax(scores[0].double(), dim=1).numpy() / np.log(2)
        saved, long = [0.0], 0
        for n in np.flatnonzero(hidden):
            spelled = 1 if pieces[n] == "[UNK]" else len(pieces[n].removeprefix("##"))
            saved.append(0.0 if pieces[n] == "[UNK]" else np.log2(alphabet) * spelled - bits[n, ids[n]])
            long += spelled
        assert long
        found = bits_saved(module, tokenizer, [text], 16, alphabet)
        assert found == pytest.approx(sum(saved) / long, abs=1e-4)
    torch.nn.init.zeros_(module.bias)
    torch.nn.init.zeros_(module.norm.weight)
    torch.nn.init.zeros_(module.norm.bias)  # every token alike
    even = np.log2(alphabet) - np.log2(len(tokenizer))
    assert bits_saved(module, tokenizer, TEXTS[:24], 16, alphabet) == pytest.approx(even, abs=0.5)
    assert bits_saved(module, tokenizer, ["é"], 16, alphabet) == 0
