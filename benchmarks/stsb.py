"""STS-B, English: Spearman's correlation of cosines and graded similarity, before and after fine-tuning.

`untuned` is all-MiniLM-L6-v2 as it comes. `tuned` learned from the 5,749 train pairs (CoSENT); its settings
were chosen by the 1,500 dev pairs alone, which also choose the epoch, and the 1,379 test pairs are scored
once. A fit that was cut off goes on from its last epoch, and a finished one is kept.

    python -m benchmarks.stsb --data DIR
"""

import argparse
import sys
import time
from pathlib import Path

import polars as pl

from benchmarks.process import Figures, Task
from benchmarks.report import Benchmark, Plan, Row, public
from nlp.coding import coded
from nlp.encoder import EncoderConfig, TextEncoder
from nlp.finetune import FinetuneConfig, finetune
from nlp.pairs import PAIRS
from nlp.tasks import correlation
from recsys import watch

FILE = "stsb/en.parquet"
READ = ("nlp", "recsys/training.py", "recsys/optimizing.py")
SETTINGS = FinetuneConfig(epochs=2, patience=2, learning_rate=1e-4, batch_size=32)
QUICK_ROWS = 64
FIGURES = ("spearman", "dev", "seconds")


def pairs(data: str, split: str, rows: int) -> pl.DataFrame:
    """Return one part of STS-B as PAIRS, its scores brought from 0 to 5 to 0 to 1."""
    frame = pl.read_parquet(Path(data) / FILE).filter(split=split)
    return PAIRS.conform(
        frame.head(rows or len(frame)).select(
            left="sentence1", right="sentence2", score=pl.col("score").cast(pl.Float64) / 5
        )
    )


def untuned(data: str, rows: int) -> Figures:
    """Score the default encoder."""
    return _scored(TextEncoder(EncoderConfig()), data, rows)


def tuned(data: str, rows: int, seed: int, kept: str) -> Figures:
    """Fine-tune, or recall what was, and score once."""
    root = Path(kept) / "stsb-encoders"
    config = SETTINGS.model_copy(update={"seed": seed})
    with watch.watching(_tell, root / "checkpoints"):
        found = finetune(pairs(data, "train", rows), pairs(data, "dev", rows), config, root)
    return _scored(TextEncoder(EncoderConfig(model=str(found.folder))), data, rows)


def _scored(encoder: TextEncoder, data: str, rows: int) -> Figures:
    begun = time.process_time()
    found = {}
    for name, split in (("dev", "dev"), ("spearman", "test")):
        asked = coded(pairs(data, split, rows))
        vectors = encoder.encode(asked.texts)
        found[name] = correlation(vectors[asked.left], vectors[asked.right], asked)
    return {"spearman": found["spearman"], "dev": found["dev"], "seconds": time.process_time() - begun}


def _tell(at: watch.Progress) -> None:
    line = f"epoch {at.epoch}, step {at.step} of {at.steps}: loss {at.loss:.4f}, {at.remaining_s:,.0f} s left"
    print(line if at.validation is None else f"{line}, dev {at.validation:.4f}", file=sys.stderr, flush=True)


def plan(args: argparse.Namespace) -> Plan:
    """Return both rows, or why they cannot be measured."""
    file = args.data / FILE
    skipped = "" if file.is_file() else f"there is no {file}: see --data"
    asked = {"data": str(args.data), "rows": QUICK_ROWS if args.quick else 0}
    told = asked | {"seed": args.seed, "kept": str(args.kept)}
    rows = [
        Row("untuned", Task(untuned, asked), FIGURES, READ, facts={"selection": "fixed"}, skipped=skipped),
        Row("tuned", Task(tuned, told), FIGURES, READ, facts={"selection": "validated"}, skipped=skipped),
    ]
    counts = {} if skipped else dict(pl.read_parquet(file)["split"].value_counts().iter_rows())
    return Plan(counts, rows)


if __name__ == "__main__":
    Benchmark("stsb", "Graded similarity of sentences.", plan, public).main()
