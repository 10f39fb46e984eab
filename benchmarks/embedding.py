"""Texts a second: ours against sentence-transformers in float32, in turn, on the same threads.

The texts are of mixed lengths: reviews of instruments and banking questions, as many of each, cut at 128
tokens by both. `cosine` is the mean one to the vectors of sentence-transformers, `cosine_least` the lowest;
`stsb` is Spearman's correlation on the test pairs of STS-B, `stsb_float32` that of sentence-transformers.
`seconds` are of the processor, loading not counted. `step` is one fine-tuning step (16 pairs,
InfoNCE) against the same batch in transformers' Trainer, float32 and padded to its longest, `seconds` a step.

    python -m benchmarks.embedding --data DIR --threads 1
"""

import argparse
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks import stsb
from benchmarks.process import Figures, NotReached, Task
from benchmarks.report import Benchmark, Plan, Row, count, public
from nlp.coding import coded
from nlp.encoder import EncoderConfig, TextEncoder, locate, tokenize
from nlp.pairs import PAIRS
from nlp.tasks import correlation
from recsys import training

REVIEWS, QUESTIONS = "amazon_instruments/reviews.parquet", "banking77/train.parquet"
READ = ("nlp",)
MAX_TOKENS = 128
BATCH = 16  # pairs: more would need gigabytes beside one another in the peer


def texts(data: str, number: int, seed: int) -> list[str]:
    """Draw as many reviews as questions, mixed."""
    reviews = pl.read_parquet(Path(data) / REVIEWS)["reviewText"]
    questions = pl.read_parquet(Path(data) / QUESTIONS)["text"]
    random = np.random.default_rng(seed)
    drawn = [
        part.filter(part.str.strip_chars() != "").sample(number // 2, seed=seed).to_list()
        for part in (reviews, questions)
    ]
    both = drawn[0] + drawn[1]
    return [both[place] for place in random.permutation(len(both))]


def attune(data: str, number: int, seed: int, graded: int) -> Figures:
    """Encode by the default settings; `graded` pairs of STS-B, 0 for all."""
    read, encoder = texts(data, number, seed), TextEncoder(EncoderConfig(max_tokens=MAX_TOKENS))
    encoder.encode(read[:64])
    begun = time.process_time()
    vectors = encoder.encode(read)
    seconds = time.process_time() - begun
    peer = _peer()
    cosines = (vectors * peer.encode(read, normalize_embeddings=True)).sum(axis=1)
    asked = coded(stsb.pairs(data, "test", graded))
    both = encoder.encode(asked.texts), peer.encode(asked.texts, normalize_embeddings=True)
    ours, theirs = (correlation(found[asked.left], found[asked.right], asked) for found in both)
    return {
        "texts_per_s": len(read) / seconds,
        "cosine": float(cosines.mean()),
        "cosine_least": float(cosines.min()),
        "stsb": ours,
        "stsb_float32": theirs,
        "seconds": seconds,
    }


def sentence_transformers(data: str, number: int, seed: int) -> Figures:
    """Encode by sentence-transformers as it comes."""
    read, encoder = texts(data, number, seed), _peer()
    encoder.encode(read[:64])
    begun = time.process_time()
    encoder.encode(read, normalize_embeddings=True)
    seconds = time.process_time() - begun
    return {"texts_per_s": len(read) / seconds, "seconds": seconds}


def _peer() -> Any:
    encoder = needed("sentence_transformers").SentenceTransformer(str(locate(EncoderConfig())), device="cpu")
    encoder.max_seq_length = MAX_TOKENS
    return encoder


def needed(library: str) -> Any:
    """Import the library of a peer, or say that it is not there."""
    try:
        return import_module(library)
    except ImportError:
        package = library.replace("_", "-")
        raise NotReached(f"{package} is not installed: pip install {package}") from None


def _pairs(data: str, steps: int, seed: int) -> pl.DataFrame:
    read = texts(data, 2 * BATCH * steps, seed)
    half = len(read) // 2
    return PAIRS.conform(pl.DataFrame({"left": read[:half], "right": read[half:]}))


def step(data: str, steps: int, seed: int) -> Figures:
    """Time the steps of one epoch of fine-tuning, the first left out."""
    from nlp.finetune import FinetuneConfig, recipe_for
    from nlp.network import begin
    from nlp.tasks import Reader, pairs

    base, config = locate(EncoderConfig()), FinetuneConfig(epochs=1, batch_size=BATCH, seed=seed)
    assert isinstance(base, Path)
    learned = coded(_pairs(data, steps, seed))
    tokenizer, network = begin(base, recipe_for(base, config))
    read = Reader(network, tokenize(tokenizer, learned.texts, MAX_TOKENS), 0, config.chunk_tokens)
    task = pairs(read, learned, "info_nce", config, "", None)
    ended: list[float] = []

    def loss(rows: np.ndarray, random: np.random.Generator) -> Any:
        ended.append(time.process_time())
        return task.loss(rows, random)

    from dataclasses import replace

    training.train(replace(task, loss=loss), config)
    ended.append(time.process_time())
    return {"seconds": float(np.median(np.diff(ended)[1:]))}


def trainer_step(data: str, steps: int, seed: int) -> Figures:
    """Time transformers' Trainer on the same pairs, loss and batch, the first step left out."""
    needed("accelerate")  # by transformers' Trainer
    import torch
    from transformers import AutoModel, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments

    place = locate(EncoderConfig())
    tokenizer = AutoTokenizer.from_pretrained(place)

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = AutoModel.from_pretrained(place, dtype=torch.float32)

        def vectors(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            states = self.body(input_ids=ids, attention_mask=mask).last_hidden_state
            mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            return torch.nn.functional.normalize(mean, dim=1)

        def forward(self, left: Any, right: Any, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.vectors(**left) @ self.vectors(**right).T / 0.05
            both = (logits, logits.T)
            losses = [torch.nn.functional.cross_entropy(part, labels) for part in both]
            return {"loss": sum(losses) / 2}

    def collate(rows: list[dict[str, str]]) -> dict[str, Any]:
        def side(name: str) -> dict[str, Any]:
            found = tokenizer(
                [row[name] for row in rows],
                padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt",
            )  # fmt: skip
            return {"ids": found["input_ids"], "mask": found["attention_mask"]}

        return {"left": side("left"), "right": side("right"), "labels": torch.arange(len(rows))}

    ended: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ended.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder, per_device_train_batch_size=BATCH, num_train_epochs=1, learning_rate=5e-5, report_to=[],
            save_strategy="no", logging_strategy="no", remove_unused_columns=False, use_cpu=True, seed=seed,
            disable_tqdm=True, dataloader_pin_memory=False,
        )  # fmt: skip
        rows: Any = _pairs(data, steps, seed).select("left", "right").to_dicts()
        Trainer(Two(), settings, train_dataset=rows, data_collator=collate, callbacks=[Clock()]).train()
    return {"seconds": float(np.median(np.diff(ended)))}


def plan(args: argparse.Namespace) -> Plan:
    """Return the rows and their peers, or why they cannot be measured."""
    lacking = [name for name in (REVIEWS, QUESTIONS, stsb.FILE) if not (args.data / name).is_file()]
    skipped = f"there is no {args.data / lacking[0]}: see --data" if lacking else ""
    number, steps, repeats = (64, 2, 1) if args.quick else (args.texts, args.steps, args.repeats)
    asked = {"data": str(args.data), "seed": args.seed}
    many, few = asked | {"number": number}, asked | {"steps": steps}
    speed = ("texts_per_s", "seconds")
    peer = Row(
        "sentence_transformers", Task(sentence_transformers, many), speed, READ,
        compared="texts_per_s", skipped=skipped,
    )  # fmt: skip
    ours = Row(
        "attune", Task(attune, many | {"graded": stsb.QUICK_ROWS if args.quick else 0}),
        (*speed, "ratio", "cosine", "cosine_least", "stsb", "stsb_float32"), (*READ, "benchmarks/stsb.py"),
        peer=peer, compared="texts_per_s", repeats=repeats, skipped=skipped,
    )  # fmt: skip
    trainer = Row("trainer_step", Task(trainer_step, few), ("seconds",), READ, skipped=skipped)
    tuning = Row("step", Task(step, few), ("seconds", "ratio"), READ, peer=trainer, skipped=skipped)
    return Plan({} if skipped else {"texts": number, "pairs": BATCH * steps}, [ours, peer, tuning, trainer])


def options(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark alone takes."""
    parser.add_argument("--texts", type=count, default=1000, help="texts encoded: %(default)s")
    parser.add_argument("--steps", type=count, default=8, help="fine-tuning steps timed: %(default)s")
    parser.add_argument("--repeats", type=count, default=3, help="runs whose median counts: %(default)s")
    public(parser)


if __name__ == "__main__":
    Benchmark("embedding", "How fast texts become vectors.", plan, options).main()
