"""Medical questions: their type in the words they were made with and in others, and answers found for them.

`medquad` holds 47,441 questions, 16,407 with an answer. Each type is one pattern over a focus, so a split by
entity asks for words that were trained on. The other question is that of `examples/medquad/paraphrases.csv`,
four other ways to ask for each type, written before anything was trained. The first of the four chooses
settings, the rest are the test.

`_entities`: entities (the focus, by its concept where it has one) dealt out to FOLDS folds, learned from
PER_TYPE questions a type of the others, all questions of the fold asked. `_paraphrases`: the same
classifiers are asked the paraphrases, each about ENTITIES entities of their fold that have its type.
Macro-F1 over the 35 types with 80 questions or more; 95 % intervals by bootstrap over entities, and over
paraphrases.

`answers_`: the answers of all entities are searched with the questions of a fifth of them; `tuned` learned
question ↔ answer from the other four, `reranked` is a cross-encoder that did, and reads the first REREAD
places of the untuned vectors again. Right is any answer to the same type about the same entity.

    python -m benchmarks.medquad --data DIR
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from benchmarks.process import ROOT, Figures, NotReached, Task
from benchmarks.report import KEPT, Benchmark, Plan, Row, public
from profiles import manifest

if TYPE_CHECKING:
    from nlp.label_metrics import Judged
    from nlp.retrieval import By, Index, Reads
    from recsys.significance import Array

FILE = "medquad/qa.parquet"
PARAPHRASES = ROOT / "examples/medquad/paraphrases.csv"
FOLDS, PER_TYPE, ENTITIES, LEAST = 5, 120, 10, 80
QUICK = 400  # questions and answers
# Of a cross-encoder. It reads each pair by itself: 13,000 pairs and fifty places would take hours of a core,
# these take minutes; a place beyond the tenth counts for nothing before it is read.
LEARNED, REREAD, READ = 1000, 10, 128  # pairs, places, tokens
MEASURED = ("nlp", "recsys/training.py", "examples/medquad/paraphrases.csv")
FIGURES = ("macro_f1", "low", "high", "fit_s")
BERT: list[dict[str, Any]] = [
    {"method": "frozen"},
    {"method": "fewshot", "epochs": 1},
    {"method": "finetune", "epochs": 1, "learning_rate": 5e-5},
    {"method": "finetune", "epochs": 2, "learning_rate": 1.5e-4},
    {"method": "finetune", "epochs": 2, "learning_rate": 1.5e-4, "contrastive": 0.5},
]
METHODS: dict[str, list[dict[str, Any]]] = {
    "tfidf": [{"method": "tfidf", "penalty": p} for p in (0.01, 0.1, 1.0)],
    "bert": BERT,
    "prototypes": [{"method": "prototypes", "scale": 8.0, "penalty": 10.0}],
}


@cache
def questions(file: Path, quick: bool = False) -> pl.DataFrame:
    """Return question, qtype, focus, entity and answer (null where it has none)."""
    if not file.exists():
        raise NotReached(f"{file} is not there: give --data, or set ATTUNE_DATA")
    rows = pl.read_parquet(file).filter(pl.col("focus").str.len_chars() > 0)
    entity = (
        pl.when(pl.col("cui").str.len_chars() > 0).then("cui").otherwise(pl.col("focus").str.to_lowercase())
    )
    answer = pl.when(pl.col("answer").str.len_chars() > 0).then("answer")
    found = rows.select("question", "qtype", "focus", entity=entity, answer=answer)
    return found.sample(QUICK, seed=0) if quick else found


def typed(rows: pl.DataFrame, least: int) -> pl.DataFrame:
    """Return the questions of types with at least `least` of them."""
    return rows.filter(pl.len().over("qtype") >= least)


def filled(rows: pl.DataFrame, seed: int, choosing: bool) -> pl.DataFrame:
    """Return question, qtype and paraphrase: each paraphrase about some entities of `rows` with its type."""
    ways = pl.read_csv(PARAPHRASES).with_columns(number=pl.int_range(pl.len()).over("qtype"))
    ways = ways.filter((pl.col("number") == 0) == choosing).rename({"question": "paraphrase"})
    focuses = rows.unique(["qtype", "entity"], maintain_order=True).select("qtype", "focus")
    drawn = focuses.sample(fraction=1.0, shuffle=True, seed=seed)
    drawn = drawn.filter(pl.int_range(pl.len()).over("qtype") < ENTITIES)
    both = ways.join(drawn, on="qtype", maintain_order="left_right")
    question = pl.col("paraphrase").str.replace("{focus}", pl.col("focus"), literal=True)
    return both.select("qtype", "paraphrase", question=question)


def classify(folder: str, file: str, method: str, seed: int, quick: bool) -> Figures:
    """Choose settings, learn from each fold's rest, ask the fold and its paraphrases; writes it down."""
    from nlp.classifier_config import ClassifierConfig
    from nlp.classify import train
    from nlp.crossval import CrossValidationConfig, folds
    from nlp.label_metrics import Judged

    rows = typed(questions(Path(file), quick), 20 if quick else LEAST)
    dealt = CrossValidationConfig(folds=2 if quick else FOLDS, seed=seed)
    cuts = folds(rows["qtype"].to_list(), dealt, rows["entity"].to_list())
    parts = [(few(rows[fold.train], seed), rows[fold.test]) for fold in cuts]

    def judged(settings: dict[str, Any], known: pl.DataFrame, *asked: pl.DataFrame) -> list[Judged]:
        with tempfile.TemporaryDirectory() as made:  # an encoder is read from there when it is first asked
            config = ClassifierConfig(**settings, seed=seed)
            place = Path(made) / "classifier"
            classifier = train(known["question"].to_list(), known["qtype"].to_list(), config, place)
            return [classifier.judged(t["question"].to_list(), t["qtype"].to_list()) for t in asked]

    tried, chosen_by = METHODS[method][:1] if quick else METHODS[method], list[float]()
    for settings in tried:
        found = judged(settings, parts[0][0], filled(parts[0][1], seed, choosing=True))
        chosen_by.append(macro_f1(found, [*range(len(found[0].truth))], seed)["macro_f1"])
    settings = tried[int(np.argmax(chosen_by))]

    begun, plain, other, ways = time.perf_counter(), list[Judged](), list[Judged](), list[str]()
    for known, held in parts:
        texts = filled(held, seed, choosing=False)
        for sort, one in zip((plain, other), judged(settings, known, held, texts), strict=True):
            sort.append(one)
        ways += texts["paraphrase"].to_list()
    told = {"fit_s": time.perf_counter() - begun, "settings": settings, "chosen_by": chosen_by}
    entities = [name for _, held in parts for name in held["entity"]]
    both = {
        "entities": {**told, **macro_f1(plain, entities, seed)},
        "paraphrases": {**told, **macro_f1(other, ways, seed)},
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    manifest.write_atomically(Path(folder) / f"{method}.json", json.dumps(both).encode())
    return {}


def few(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return PER_TYPE questions of each type, drawn: more of one pattern says nothing new."""
    return rows.sample(fraction=1.0, shuffle=True, seed=seed).filter(
        pl.int_range(pl.len()).over("qtype") < PER_TYPE
    )


def macro_f1(parts: "Sequence[Judged]", groups: Sequence[Any], seed: int) -> dict[str, Any]:
    """Return the macro-F1 of several folds together, with its interval over groups, and how many texts."""
    from nlp.label_metrics import Judged, measure

    names = {judged.labels.names for judged in parts}
    assert len(names) == 1, "every fold knows every type"
    both = Judged(
        parts[0].labels,
        np.concatenate([judged.truth for judged in parts]),
        np.concatenate([judged.probabilities for judged in parts]),
    )
    found = measure(both, seed, groups=[str(group) for group in groups]).row(
        by_predicate=pl.col("metric") == "f1_macro", named=True
    )
    return {"macro_f1": found["value"], "low": found["low"], "high": found["high"], "texts": len(both.truth)}


def found(folder: str, method: str, question: str) -> Figures:
    """Tell what `classify` found."""
    told: Figures = json.loads((Path(folder) / f"{method}.json").read_bytes())[question]
    return told


def answers(file: str, by: str, seed: int, quick: bool) -> Figures:
    """Search all answers with the questions of a fifth of the entities."""
    from nlp.cross_encoder import CrossEncoder, CrossEncoderConfig
    from nlp.encoder import EncoderConfig, TextEncoder
    from nlp.retrieval import Index, RetrievalConfig

    rows = questions(Path(file), quick).drop_nulls("answer").with_row_index("row")
    held = held_out(rows["entity"], seed)
    encoder = None
    if by == "tuned":
        with tempfile.TemporaryDirectory() as made:
            encoder = TextEncoder(EncoderConfig(model=str(tuned(rows.filter(~held), seed, Path(made)))))
            encoder.encode(["loaded before its folder goes"])
            return searched(Index.of(rows["answer"].to_list(), encoder), rows, held, "vectors")
    if by != "bm25":
        encoder = TextEncoder()
    index = Index.of(rows["answer"].to_list(), encoder, RetrievalConfig(reread=REREAD))
    if by == "reranked":
        with tempfile.TemporaryDirectory() as made:
            folder = reranker(rows.filter(~held), 32 if quick else LEARNED, seed, Path(made))
            reader = CrossEncoder(folder, CrossEncoderConfig(max_tokens=READ))
            return searched(index, rows, held, "vectors", reader)
    return searched(index, rows, held, "words" if by == "bm25" else "vectors")


def held_out(entities: pl.Series, seed: int) -> pl.Series:
    """Tell which rows are of the fifth of the entities that is asked."""
    names = entities.unique().sort()
    asked = names.sample(len(names) // 5, seed=seed)
    return entities.is_in(asked.implode())


def searched(
    index: "Index", rows: pl.DataFrame, held: pl.Series, by: "By", reader: "Reads | None" = None
) -> Figures:
    """Return the mean reciprocal rank of the first right answer among ten, with its 95 % interval."""
    asked = rows.filter(held)
    begun = time.perf_counter()
    lists = index.search(asked["question"].to_list(), 10, by, reader)
    seconds = time.perf_counter() - begun
    reached = reciprocal_ranks(lists, rows, asked)
    drawn = np.random.default_rng(0).integers(0, len(reached), (1000, len(reached)))
    low, high = np.quantile(reached[drawn].mean(axis=1), [0.025, 0.975])
    return {
        "mrr@10": float(reached.mean()), "low": float(low), "high": float(high),
        "queries": len(asked), "answers": len(rows), "search_s": seconds,
    }  # fmt: skip


def reciprocal_ranks(lists: pl.DataFrame, rows: pl.DataFrame, asked: pl.DataFrame) -> "Array":
    """Return 1 / rank of the first right answer of each question `asked`, (questions,); 0: none is listed.

    `lists` are RETRIEVED, whose texts are the answers of `rows`.
    """
    same = ["entity", "qtype"]
    truth = asked.with_row_index("query").select("query", *same)
    right = lists.with_columns(pl.col("query").cast(pl.UInt32), row=pl.col("text").cast(pl.UInt32))
    right = right.join(rows.select("row", *same), on="row").join(truth, on=["query", *same])
    first = right.group_by("query").agg(pl.col("rank").min())
    reached = np.zeros(len(asked))
    reached[first["query"].to_numpy()] = 1 / first["rank"].to_numpy()
    return reached


def tuned(rows: pl.DataFrame, seed: int, folder: Path) -> Path:
    """Fine-tune on question ↔ answer of the entities that are not asked; returns the encoder's folder."""
    from nlp.finetune import FinetuneConfig, finetune
    from nlp.pairs import PAIRS

    cut = held_out(rows["entity"], seed + 1)
    pairs = PAIRS.conform(rows.select(left="question", right="answer"))
    config = FinetuneConfig(epochs=2, batch_size=64, max_tokens=128, seed=seed)
    return finetune(pairs.filter(~cut), pairs.filter(cut), config, folder).folder


def reranker(rows: pl.DataFrame, most: int, seed: int, folder: Path) -> Path:
    """Train a cross-encoder on question ↔ answer of some entities; returns its folder."""
    from nlp.pairs import PAIRS
    from nlp.rerank import RerankConfig, train

    drawn = of_some_entities(rows, most, seed)
    pairs = PAIRS.conform(drawn.select(left="question", right="answer"))
    config = RerankConfig(epochs=1, batch_size=4, others=0, max_tokens=READ, seed=seed)
    return train(pairs, pairs.clear(), config, folder).folder


def of_some_entities(rows: pl.DataFrame, most: int, seed: int) -> pl.DataFrame:
    """Return rows of whole entities, drawn: an entity's other answers are the wrong ones to learn from."""
    names = rows["entity"].unique().sort().sample(fraction=1.0, shuffle=True, seed=seed)
    drawn = pl.DataFrame({"entity": names}).with_row_index("place")
    return rows.join(drawn, on="entity", maintain_order="left").sort("place", maintain_order=True).head(most)


def plan(args: argparse.Namespace) -> Plan:
    """Types by each of METHODS, under both questions; answers by words, and by vectors before and after."""
    file = args.data / FILE
    folder = KEPT / "data" / f"medquad-{args.seed}{'-quick' * args.quick}"
    rows = []
    for method in METHODS:
        given = {"folder": folder, "file": file, "method": method, "seed": args.seed, "quick": args.quick}
        made = Task(classify, given)
        for question in ("entities", "paraphrases"):
            told = Task(found, {"folder": folder, "method": method, "question": question})
            rows.append(Row(f"{method}_{question}", told, FIGURES, MEASURED, needs=(made,)))
    for by in ("bm25", "untuned", "tuned", "reranked"):
        task = Task(answers, {"file": file, "by": by, "seed": args.seed, "quick": args.quick})
        rows.append(Row(f"answers_{by}", task, ("mrr@10", "low", "high"), MEASURED))
    there = questions(file, args.quick) if file.exists() else pl.DataFrame({"answer": [], "entity": []})
    counts = {
        "questions": len(there), "answers": there["answer"].count(), "entities": there["entity"].n_unique(),
    }  # fmt: skip
    return Plan(counts, rows)


if __name__ == "__main__":
    Benchmark("medquad", "Medical questions: types and answers.", plan, public).main()
