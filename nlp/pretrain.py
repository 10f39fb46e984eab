"""A tokenizer and a small BERT of one's own texts, from nothing: any language, no download.

The WordPiece tokenizer sets Chinese characters apart and keeps accents; BERT learns by foretelling masked
tokens (Devlin et al., NAACL 2019), through the one gradient loop, so a killed run goes on to the same bits.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt

from nlp.encoder import bfloat16_is_fast, tokenize
from nlp.folder import Recipe
from nlp.training_config import BertDefaults
from profiles import manifest
from profiles.schema import ContractError
from recsys import training, watch
from recsys.space import Tuned
from recsys.training import TrainingConfig

FORMAT = 1  # raise it when the same texts and settings give other weights
FORETOLD = "bits_saved"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


class PretrainConfig(BertDefaults, TrainingConfig):
    """The size of the model, and how long it learns."""

    vocabulary: Annotated[int, Tuned(1000, 30_000, log=True)] = Field(
        8000, ge=100, le=100_000, description="pieces of words, at most"
    )
    factors: PositiveInt = Field(128, description="values of a token's state; a multiple of heads")
    layers: PositiveInt = Field(4, description="attention layers")
    heads: PositiveInt = Field(4, description="attention heads of a layer")
    max_tokens: int = Field(128, ge=8, le=512, description="tokens read of a text")
    masked: Annotated[float, Tuned(0.1, 0.4)] = Field(
        0.15, gt=0, lt=1, description="share of the tokens that are foretold"
    )

    learning_rate: Annotated[PositiveFloat, Tuned(1e-4, 3e-3, log=True)] = Field(
        5e-4, description="step size at its highest"
    )
    batch_size: Annotated[PositiveInt, Tuned(among=(16, 32, 64))] = Field(32, description="texts a step")
    epochs: PositiveInt = Field(10, description="passes over the texts")


def pretrain(
    texts: Sequence[str],
    config: PretrainConfig,
    root: Path,
    phase: Callable[[str], AbstractContextManager[object]] = lambda _: nullcontext(),
    held: Sequence[str] = (),
) -> Path:
    """Learn from texts and seal an encoder in a folder under `root`, named by all it depends on.

    Blank texts and repeats are left out. What is there already is returned as it is. Where texts are `held`
    out, the manifest says how well they are foretold (`FORETOLD`: see `nlp.masking.bits_saved`). Raises
    ContractError where there is nothing to learn from.
    """
    read = list(dict.fromkeys(text.encode("utf-8", "replace").decode() for text in texts if text.strip()))
    if len(read) < 2:
        raise ContractError(f"{len(read)} distinct texts are too few to learn a language from")
    if config.factors % config.heads:
        raise ContractError(f"factors = {config.factors} is no multiple of heads = {config.heads}")
    asked = [list(held)] if held else []
    place = root / f"pretrained-{manifest.content_key(FORMAT, config.model_dump(), read, *asked)}"
    if place.exists():
        manifest.verify(place)
        return place
    from nlp.masking import MaskedLanguage, bits_saved, mlm
    from nlp.network import TextNetwork

    with watch.undertaking(place.name), training.reproducible(config.seed):
        tokenizer = tokenizer_of(read, config.vocabulary, config.max_tokens)
        body = _bert(len(tokenizer), config)
        module = MaskedLanguage(body)
        tokens = tokenize(tokenizer, read, config.max_tokens)
        half = bfloat16_is_fast()
        task = mlm(module, tokens, tokenizer, config.batch_size, config.masked, place.name, half)
        judge = partial(bits_saved, module, tokenizer, held, config.max_tokens, len({*"".join(read)}))
        if held:
            task = replace(task, validate=judge)
        with phase("masked tokens"):
            trained = training.train(task, config)
        about: dict[str, Any] = {
            "producer": "pretrain",
            "settings": config.model_dump(mode="json"),
            "texts": len(read),
            "losses": trained.losses,
            **({FORETOLD: judge()} if held else {}),
        }
        with manifest.building(place, about) as folder:
            TextNetwork(body, Recipe()).save(folder, tokenizer)
    return place


def tokenizer_of(texts: Sequence[str], vocabulary: int, max_tokens: int) -> Any:
    """Return a fast WordPiece tokenizer whose pieces are those frequent in the texts."""
    from tokenizers import Tokenizer, models, processors, trainers
    from transformers import PreTrainedTokenizerFast

    trained = _split(Tokenizer(models.WordPiece(unk_token="[UNK]")))
    # The trainer numbers the inner characters in the order of a hash, another each time, and settles ties by
    # number: told them beforehand, it finds the same pieces every time.
    words = {word for text in texts for word, _ in _words(trained, text)}
    inner = sorted({f"##{character}" for word in words for character in word[1:]})
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, special_tokens=[*SPECIAL, *inner], show_progress=False, min_frequency=2
    )
    trained.train_from_iterator(texts, trainer)
    pieces = trained.get_vocab()
    made = _split(Tokenizer(models.WordPiece(pieces, unk_token="[UNK]", max_input_chars_per_word=100)))
    marks = [(mark, pieces[mark]) for mark in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", marks)
    fast: Any = PreTrainedTokenizerFast
    return fast(
        tokenizer_object=made, model_max_length=max_tokens, pad_token="[PAD]", unk_token="[UNK]",
        cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip


def _split(tokenizer: Any) -> Any:
    """Let a tokenizer cut texts into words, Chinese characters each a word, as BERT does."""
    from tokenizers import normalizers, pre_tokenizers

    tokenizer.normalizer = normalizers.BertNormalizer(handle_chinese_chars=True, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _words(tokenizer: Any, text: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = tokenizer.pre_tokenizer.pre_tokenize_str(
        tokenizer.normalizer.normalize_str(text)
    )
    return found


def _bert(vocabulary: int, config: PretrainConfig) -> Any:
    from transformers import BertConfig, BertModel

    shape = BertConfig(
        vocab_size=vocabulary, hidden_size=config.factors, num_hidden_layers=config.layers,
        num_attention_heads=config.heads, intermediate_size=4 * config.factors,
        max_position_embeddings=config.max_tokens, pad_token_id=0,
    )  # fmt: skip
    return BertModel(shape, add_pooling_layer=False)
