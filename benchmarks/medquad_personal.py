"""Answers for people who asked before, on MedQuAD: *simulated* users, as the data names no one.

A simulated user asked EARLIER questions about one focus in the last days, and OLDER ones about another focus
three months ago. Now comes the next question about the first focus, of a type not asked yet, in three ways:

`pronoun`: the focus is called "it"; `part`: by its last word alone ("Adult Hodgkin Lymphoma" is "Lymphoma");
`switched`: a whole question about a third focus, where what was asked before can only mislead.

All 16,393 answers (`--answers`: the first so many) are ranked: by the words of the question alone (BM25), by
its vector alone (MiniLM-L6 as it comes), and by that vector with the user's own, which is the profile's: the
mean of what was asked before, an older question counting less (`nlp.embed.user_vectors`, half of it after
HALF_LIFE days). The share of that vector is the best for a third of the users, by the mean over the three
ways; the others are the test. Right is any answer to the same type about the same entity; the intervals
are over users, those of gains paired.

    python -m benchmarks.medquad_personal --data DIR
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.medquad import FILE, questions, reciprocal_ranks
from benchmarks.process import Figures, Task
from benchmarks.report import KEPT, Benchmark, Plan, Row, count, public
from nlp.embed import EmbeddingCache, Encodes, embed, user_vectors
from nlp.retrieval import By, Index, RetrievalConfig, Scores
from profiles import manifest
from profiles.texts import text_hash
from recsys.significance import interval, paired

EARLIER, OLDER, MONTHS_AGO = 3, 2, 90  # questions, questions, days
USERS = 1500  # at most; a third chooses the share
HALF_LIFE = 90.0  # days, as `[text] half_life_days` is by default
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
WAYS = ("pronoun", "part", "switched")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MEASURED = ("benchmarks/medquad.py", "nlp", "recsys/ranking.py", "recsys/significance.py")
QUICK = 400  # answers


@dataclass(frozen=True)
class Kept:
    """An encoder that makes a vector once."""

    encoder: Encodes
    cache: EmbeddingCache

    @property
    def name(self) -> str:
        return self.encoder.name

    @property
    def dimension(self) -> int:
        return self.encoder.dimension

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> np.ndarray:
        return embed(texts, self.encoder, self.cache, progress)


def simulated(rows: pl.DataFrame, count: int, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return at most `count` users and what they wrote, both made up.

    Users: user_id, way, question, entity and qtype of the answer that is right, one row a way (no `part`
    where the focus is one word). Written: user_id, text, timestamp.
    """
    named = rows.filter(pl.col("question").str.contains(pl.col("focus"), literal=True))
    drawn = named.sample(fraction=1.0, shuffle=True, seed=seed)
    drawn = drawn.unique(["entity", "focus", "qtype"], keep="first", maintain_order=True)
    drawn = drawn.filter(pl.len().over("entity", "focus") > EARLIER)
    drawn = drawn.filter(pl.col("focus") == pl.col("focus").first().over("entity"))
    chains = [part.to_dicts() for part in drawn.partition_by("entity", maintain_order=True)][:count]
    asked, written = list[dict[str, Any]](), list[tuple[str, str, datetime]]()
    for place, chain in enumerate(chains):
        user, before, other = f"simulated-{place}", chains[place - 1], chains[place - 2]
        # Nobody asks what "it" is after three questions about it.
        last = next(row for row in chain if row["qtype"] != "information")
        for way, found in (("pronoun", last), ("part", last), ("switched", other[0])):
            if (question := worded(found["question"], found["focus"], way)) is not None:
                right = {name: found[name] for name in ("entity", "qtype")}
                asked.append({"user_id": user, "way": way, "question": question} | right)
        recent = [row for row in chain if row is not last][:EARLIER]
        for start, part in ((1, recent), (MONTHS_AGO, before[:OLDER])):
            for days, row in enumerate(part, start):
                written.append((user, row["question"], NOW - timedelta(days=days)))
    return pl.DataFrame(asked), pl.DataFrame(written, ["user_id", "text", "timestamp"], orient="row")


def worded(question: str, focus: str, way: str) -> str | None:
    """Return a question with its focus named as the way has it; None where its last word is all of it."""
    if way == "switched":
        return question
    *first, last = focus.split()
    if way == "part" and not first:
        return None
    return question.replace(focus, "it" if way == "pronoun" else last)


def profile(users: Sequence[str], written: pl.DataFrame, encoder: Encodes) -> Scores:
    """Return the users' vectors as their profiles hold them, (users, d)."""
    texts = written.with_columns(
        text_hash=pl.col("text").map_elements(text_hash, return_dtype=pl.String)
    ).select("user_id", "text_hash", "timestamp")
    vectors = dict(zip(texts["text_hash"], encoder.encode(written["text"].to_list()), strict=True))
    return user_vectors(users, texts, vectors, NOW, HALF_LIFE, encoder.dimension)


def measure(folder: str, file: str, answers: int, seed: int) -> Figures:
    """Choose the share on some users, ask the others' questions in every way; writes down what was found."""
    from nlp.encoder import TextEncoder

    rows = questions(Path(file)).drop_nulls("answer").head(answers).with_row_index("row")
    asked, written = simulated(rows, USERS, seed)
    users = asked["user_id"].unique(maintain_order=True)
    encoder = Kept(TextEncoder(), EmbeddingCache(KEPT / "data" / "medquad-vectors.sqlite"))
    index = Index.of(rows["answer"].to_list(), encoder)
    before = profile(asked["user_id"].to_list(), written, encoder)

    def reached(which: pl.Series, by: By, share: float | None = None) -> np.ndarray:
        told, shared = asked.filter(which), RetrievalConfig(context=share or 0.0)
        context = None if share is None else before[which.to_numpy()]
        searching = Index(index.texts, index.words, shared, encoder, index.vectors)
        lists = searching.search(told["question"].to_list(), 10, by, context=context)
        return reciprocal_ranks(lists, rows, told)

    chooses = asked["user_id"].is_in(users.head(len(users) // 3).implode())
    chosen_by = [_over_ways(asked.filter(chooses), reached(chooses, "vectors", share)) for share in SHARES]
    share = SHARES[int(np.argmax(chosen_by))]
    test = asked.filter(~chooses)
    values = {
        "words": reached(~chooses, "words"),
        "vectors": reached(~chooses, "vectors"),
        "personal": reached(~chooses, "vectors", share),
    }
    told = {"share": share, "chosen_by": chosen_by}
    found = {
        f"{way}_{by}": figures(values, by, (test["way"] == way).to_numpy(), seed)
        | (told if by == "personal" else {})
        for way in WAYS
        for by in values
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    manifest.write_atomically(Path(folder) / "found.json", json.dumps(found).encode())
    return {}


def _over_ways(asked: pl.DataFrame, reached: np.ndarray) -> float:
    by_way = asked.with_columns(reached=reached).group_by("way").agg(pl.col("reached").mean())
    return float(np.mean(by_way["reached"].to_numpy()))


def figures(values: dict[str, np.ndarray], by: str, which: np.ndarray, seed: int) -> Figures:
    """Return the mean of one ranking's values with its interval; of `personal` also what it gains."""
    own = interval(values[by][which], seed)
    found = {"mrr@10": own.mean, "low": own.low, "high": own.high, "users": int(which.sum())}
    for other in ("words", "vectors") if by == "personal" else ():
        gain = paired(values[by][which], values[other][which], seed)
        found |= {f"over_{other}": gain.mean, f"over_{other}_low": gain.low, f"over_{other}_high": gain.high}
    return found


def told(folder: str, row: str) -> Figures:
    """Tell what `measure` found."""
    found: Figures = json.loads((Path(folder) / "found.json").read_bytes())[row]
    return found


def more(parser: argparse.ArgumentParser) -> None:
    """Say how many answers are ranked."""
    public(parser)
    parser.add_argument("--answers", type=count, help="the first so many of the file; default: all")


def plan(args: argparse.Namespace) -> Plan:
    """A row a way to ask and a way to rank, all from one run."""
    file = args.data / FILE
    there = questions(file)["answer"].count() if file.exists() else 0
    answers = QUICK if args.quick else min(there, args.answers or there)
    folder = KEPT / "data" / f"medquad-personal-{args.seed}-{answers}"
    made = Task(measure, {"folder": folder, "file": file, "answers": answers, "seed": args.seed})
    gains = tuple(f"over_{other}{end}" for other in ("words", "vectors") for end in ("", "_low", "_high"))
    rows = [
        Row(
            f"{way}_{by}",
            Task(told, {"folder": folder, "row": f"{way}_{by}"}),
            ("mrr@10", "low", "high", *(gains if by == "personal" else ())),
            MEASURED,
            needs=(made,),
            facts={"asked_by": "simulated users"},
        )
        for way in WAYS
        for by in ("words", "vectors", "personal")
    ]
    return Plan({"answers": answers}, rows)


if __name__ == "__main__":
    Benchmark("medquad_personal", "Answers for simulated users who asked before.", plan, more).main()
