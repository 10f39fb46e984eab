"""What words add to recommendations: warm users, new users, new items, and the blend with and without them.

`text_worlds` says what is asked of whom. Items and users are read by one of three: `tfidf` (8,192 words of
what may be learned from), `untuned` (MiniLM-L6 as it comes) and `tuned`, which learned from the pairs of
`nlp.pairs` in what may be learned from. Rows:

    tfidf            content_text on tfidf
    untuned          content_text on untuned, as it is
    untuned_centred  the same, less what all items' texts have in common
    taught           content_ease on untuned: texts mapped to the columns of EASE
    tuned, tuned_centred, taught_tuned   the same three on tuned
    blend, blend_text  recommenders that read no words, and the same with the rows above as further members

Settings (how much own words count, centring, penalties) and weights are chosen on the validation question;
`tuned` takes those of `untuned`, so that the encoder alone differs. The test is scored once. `ratio` is to
`untuned` over the same users, with the 95 % interval of a paired bootstrap over users; for new items over
five draws, a user in several being one cluster. `untuned_centred_ratio` and `tfidf_ratio` are those to these
rows; the ratio of `blend_text` is to the blend without.

    python -m benchmarks.text_into_recommendations --data DIR --rows films_cold_items_taught
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks import text_worlds
from benchmarks.at_once import at_once
from benchmarks.process import ROOT, Figures, Task
from benchmarks.report import Benchmark, Plan, Row, public
from benchmarks.text_readers import (
    LEARNED,
    LOOKED_AT,
    MOST,
    PAIRS,
    QUICK_PAIRS,
    QUICK_TOKENS,
    WORDS,
    Readers,
)
from benchmarks.text_worlds import Part, World
from benchmarks.trials import meaning
from profiles import manifest
from recsys.dataset import Catalogue, Dataset, Queries
from recsys.metrics import Context, measure
from recsys.models import RECOMMENDERS
from recsys.ranking import Ranked
from recsys.recommender import Recommender, as_frame
from recsys.significance import by_cluster, draws, interval, paired
from serving.blend import fit_weights, fuse

K, DEPTH, SEEDS, ROUNDS, RESAMPLES = 10, 200, 5, 40, 2000
QUICK_ITEMS, QUICK_SEEDS = 300, 2  # beside fewer users, pairs and tokens, as worlds and readers say
ASKED = {
    "instruments": ("warm", "cold_users"),
    "films": ("warm", "cold_items"),
    "shop": ("cold_users",),
}
SHARES = [{"own_words": share} for share in (0.0, 0.25, 0.5, 0.75)]
CENTRED = [{**share, "centred": True} for share in SHARES]
EASES = [{"l2": l2, "ridge": r, "own_words": 0.5} for l2 in (500.0, 2000.0) for r in (1.0, 3.0)]
EASES += [{"l2": 500.0, "ridge": 3.0, "own_words": share} for share in (0.0, 0.25, 0.75)]
Config = Mapping[str, Any]
CONTENT: dict[str, tuple[str, str, Sequence[Config]]] = {  # row: what reads, what ranks, by which settings
    "tfidf": ("tfidf", "content_text", SHARES + CENTRED),
    "untuned": ("untuned", "content_text", SHARES),
    "untuned_centred": ("untuned", "content_text", CENTRED),
    "taught": ("untuned", "content_ease", EASES),
}
TUNED = {"tuned": "untuned", "tuned_centred": "untuned_centred", "taught_tuned": "taught"}  # whose settings
SILENT: dict[str, dict[str, Config]] = {  # the members that read no words
    "instruments": {
        "popularity": {},
        "recent": {"type": "popularity", "half_life_days": 365.0},
        "item_knn": {},
        "als": {"factors": 16},
        "ease": {},
    },
    "films": {
        "popularity": {},
        "recent": {"type": "popularity", "half_life_days": 90.0},
        "item_knn": {"neighbours": 500, "shrinkage": 100.0},
        "als": {"factors": 32, "l2": 50.0},
        "ease": {"l2": 10_000.0},
    },
}
FORMAT = 1  # raise it when what is kept between processes changes otherwise than by the settings above
MADE_BY = (
    "benchmarks/text_worlds.py", "recsys/models/content_text.py", "recsys/models/content_ease.py",
    "nlp/reviews.py", "nlp/pairs.py",
)  # fmt: skip
READ = (
    "nlp",
    "recsys",
    "serving/words.py",
    "serving/blend.py",
    "benchmarks/text_worlds.py",
    "benchmarks/text_readers.py",
)
VALIDATED = {"selection": "validated"}
FIGURES = ("ndcg@10", "low", "high", "ratio", "ratio_low", "ratio_high", "users")


@dataclass(frozen=True)
class Bench:
    """One question about one log; its fields are what one process tells another."""

    name: str
    question: str
    data: str
    kept: str
    quick: bool

    def part(self, validation: bool, seed: int = 0) -> Part:
        """Return the validation or the test."""
        return _part(self, validation, seed)

    @property
    def seeds(self) -> range:
        """Draws of items that are held out."""
        return range((QUICK_SEEDS if self.quick else SEEDS) if self.question == "cold_items" else 1)

    @property
    def root(self) -> Path:
        """Where encoders and vectors are kept."""
        return Path(self.kept) / f"text-into-recommendations{'-quick' * self.quick}"

    @property
    def readers(self) -> Readers:
        """What reads this log's texts."""
        return Readers(self.name, self.root, self.quick)

    def has(self, what: str) -> bool:
        """Whether it was found before, by the same settings and code."""
        return self._place(what).exists()

    def write(self, what: str, found: Mapping[str, Any]) -> None:
        """Keep what one process found for another."""
        self.root.mkdir(parents=True, exist_ok=True)
        manifest.write_atomically(self._place(what), json.dumps(found).encode())

    def read(self, what: str) -> dict[str, Any]:
        """Return what `write` kept."""
        found: dict[str, Any] = json.loads(self._place(what).read_bytes())
        return found

    def _place(self, what: str) -> Path:
        constants = [CONTENT, TUNED, MOST, LOOKED_AT, LEARNED.model_dump(), str(PAIRS), SEEDS, WORDS]
        constants += [QUICK_ITEMS, QUICK_SEEDS, QUICK_PAIRS, QUICK_TOKENS] if self.quick else []
        key = manifest.content_key(FORMAT, constants, [meaning(ROOT / file) for file in MADE_BY])
        return self.root / f"{self.name}-{self.question}-{what}-{key}.json"


@cache
def _part(bench: Bench, validation: bool, seed: int) -> Part:
    world = text_worlds.world(bench.name, Path(bench.data), bench.quick)
    if bench.quick:
        world = of_some_items(world)
    return text_worlds.part(world, bench.name, bench.question, validation, seed)


def of_some_items(world: World) -> World:
    """Return a log of the QUICK_ITEMS that most happened to, searches as they are."""
    counts = world.events.drop_nulls("item_id").group_by("item_id").len()
    names = counts.sort("len", "item_id", descending=True)["item_id"].head(QUICK_ITEMS)
    kept = pl.col("item_id").is_in(names.implode())
    events, items = world.events.filter(kept | pl.col("item_id").is_null()), world.items.filter(kept)
    newest = events["timestamp"].max()
    assert isinstance(newest, datetime)
    catalogue = Catalogue.of(items, events.select("item_id", "timestamp").drop_nulls(), newest)
    return World(events, items, world.choices.filter(kept), catalogue)


def tune(name: str, question: str, data: str, kept: str, quick: bool, seed: int) -> Figures:
    """Fine-tune on what one test may learn from, or recall it."""
    bench, begun = Bench(name, question, data, kept, quick), time.process_time()
    bench.readers.tuned(bench.part(False, seed))
    return {"process_s": time.process_time() - begun}


def fitted(data: Dataset, kind: str, config: Config) -> Recommender:
    """Fit one recommender."""
    settings = dict(config)
    recommender = RECOMMENDERS[settings.pop("type", kind)]
    return recommender(recommender.config_class(**settings)).fit(data)


def ranked(bench: Bench, part: Part, model: Recommender, asked: Queries, depth: int, whole: bool) -> Ranked:
    """Rank all items or, of `cold_items` where not `whole`, those alone that are held out."""
    excluded = part.hidden
    if bench.question == "cold_items" and not whole:
        known = part.catalogue.items.rows(part.split.train["item_id"].unique())
        excluded = np.union1d(part.hidden, known)
    return model.rank(asked, depth, part.catalogue, excluded=excluded)


def ndcg(part: Part, found: Ranked) -> np.ndarray:
    """Return each asked user's NDCG@K, in the order of the queries."""
    top = Ranked(found.rows[:, :K], found.scores[:, :K])
    frame = as_frame(top, part.queries.ids, part.catalogue.items, "row")
    nothing = pl.DataFrame({"item_id": [], "count": []})
    context = Context(part.catalogue.items.ids, nothing, len(part.queries))
    values = measure(frame, part.split.truth, ("ndcg",), (K,), context).sort("user_id")
    assert values["user_id"].to_list() == sorted(part.queries.ids)
    return values["value"].to_numpy()


def choose(name: str, question: str, data: str, kept: str, quick: bool) -> Figures:
    """Choose the settings of every row of CONTENT on the validation; writes them down."""
    bench, found = Bench(name, question, data, kept, quick), {}
    if bench.has("chosen"):
        return {}
    part = bench.part(validation=True)
    for reader in dict.fromkeys(reader for reader, _, _ in CONTENT.values()):
        known, asked = bench.readers.read(part, reader)
        both = asked.vectors is not None and len(asked.histories.items) > 0
        for row, (by, kind, grid) in CONTENT.items():
            if by == reader:
                tried = [c for c in grid if both or c["own_words"] == 0.5]
                values = [valid(bench, part, fitted(known, kind, c), asked) for c in tried]
                best = int(np.argmax(values))
                found[row] = {"settings": dict(tried[best]), "valid": values[best]}
    bench.write("chosen", found)
    return {}


def valid(bench: Bench, part: Part, model: Recommender, asked: Queries) -> float:
    """Return the mean NDCG@K over the users of a part."""
    return float(ndcg(part, ranked(bench, part, model, asked, K, whole=False)).mean())


def content(name: str, question: str, data: str, kept: str, quick: bool, tune: bool) -> Figures:
    """Score the test with the rows of the tuned encoder, or the others; writes each user's NDCG down."""
    bench = Bench(name, question, data, kept, quick)
    if bench.has("tuned" if tune else "values"):
        return {}
    settings = bench.read("chosen")
    rows = {row: ("tuned", CONTENT[of][1], settings[of]["settings"]) for row, of in TUNED.items()}
    if not tune:
        rows = {row: (*CONTENT[row][:2], settings[row]["settings"]) for row in CONTENT}
        rows |= {"popularity": ("untuned", "popularity", {})} if question != "cold_items" else {}
    values: dict[str, list[float]] = {}
    users: list[str] = []
    for seed in bench.seeds:
        part = bench.part(validation=False, seed=seed)
        users += sorted(part.queries.ids)
        for reader in dict.fromkeys(reader for reader, _, _ in rows.values()):
            known, asked = bench.readers.read(part, reader)
            for row, (by, kind, config) in rows.items():
                if by == reader:
                    model = fitted(known, kind, config)
                    for label in ["", "all_"] if question == "cold_items" else [""]:
                        lists = ranked(bench, part, model, asked, K, whole=bool(label))
                        values.setdefault(label + row, []).extend(ndcg(part, lists).tolist())
    bench.write("tuned" if tune else "values", {"users": users, **values})
    return {}


def told(name: str, question: str, data: str, kept: str, quick: bool, row: str) -> Figures:
    """Tell what `content` found of a row, beside `untuned`."""
    bench = Bench(name, question, data, kept, quick)
    values, tuned, settings = bench.read("values"), {}, bench.read("chosen")
    if row in TUNED:
        tuned = bench.read("tuned")
    users = np.array(values["users"])
    found: Figures = {}
    for label in ["", "all_"] if question == "cold_items" else [""]:
        own = np.array((tuned or values)[label + row])
        whole = against(own, np.array(values[f"{label}untuned"]), users)
        found |= {label + key: value for key, value in whole.items()}
        for other in ("untuned_centred", "tfidf"):
            beside = against(own, np.array(values[label + other]), users)
            found |= {f"{label}{other}_{key}": beside[key] for key in ("ratio", "ratio_low", "ratio_high")}
    about = settings.get(TUNED.get(row, row), {"settings": {}, "valid": None})
    return found | {
        "valid": None if row in TUNED else about["valid"],
        "settings": json.dumps(about["settings"]),
    }


def against(values: np.ndarray, other: np.ndarray, users: np.ndarray) -> Figures:
    """Return a mean with its interval, and how it compares with another over the same users."""
    mean = interval(values, clusters=users)
    gain = paired(values, other, clusters=users)
    sums, _ = by_cluster(np.stack([values, other], axis=1), users)
    means = np.concatenate([drawn @ sums for drawn in draws(len(sums), 0, RESAMPLES)])
    ratio, low, high = None, None, None  # where a resample holds nobody the other is right for, there is none
    if means[:, 1].all():
        ratio = float(values.mean() / other.mean())
        low, high = (float(q) for q in np.quantile(means[:, 0] / means[:, 1], [0.025, 0.975]))
    return {
        "ndcg@10": mean.mean, "low": mean.low, "high": mean.high,
        "ratio": ratio, "ratio_low": low, "ratio_high": high,
        "gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high, "users": len(sums),
    }  # fmt: skip


def blend(name: str, question: str, data: str, kept: str, quick: bool, texts: bool) -> Figures:
    """Fit weights on the validation's lists, combine the test's; compared with the blend without words."""
    bench = Bench(name, question, data, kept, quick)
    members = {source: ("untuned", source, config) for source, config in SILENT[name].items()}
    if texts:
        settings = bench.read("chosen")
        members |= {row: (*CONTENT[row][:2], settings[row]["settings"]) for row in CONTENT}
    sides = {validation: _members(bench, members, validation) for validation in (True, False)}

    def fused(sources: Sequence[str]) -> tuple[np.ndarray, dict[str, float]]:
        known = {source: sides[True][source] for source in sources}
        weights = fit_weights([(known, _truth(bench.part(True)))], None, ROUNDS, K)
        return ndcg(bench.part(False), fuse(sides[False], weights, None, K).ranked), weights

    values, weights = fused(list(members))
    without, _ = fused(list(SILENT[name]))
    found = against(values, without, np.array(sorted(bench.part(False).queries.ids)))
    return found | {"settings": json.dumps({source: round(weight, 3) for source, weight in weights.items()})}


def _members(
    bench: Bench, members: Mapping[str, tuple[str, str, Config]], validation: bool
) -> dict[str, Ranked]:
    part = bench.part(validation)
    known = {
        reader: bench.readers.read(part, reader) for reader in {reader for reader, _, _ in members.values()}
    }
    return {
        source: ranked(bench, part, fitted(known[reader][0], kind, config), known[reader][1], DEPTH, True)
        for source, (reader, kind, config) in members.items()
    }


def _truth(part: Part) -> list[np.ndarray]:
    """Return the true item rows of each query."""
    rows = part.split.truth.select("user_id", row=part.catalogue.items.rows(part.split.truth["item_id"]))
    found = dict(rows.group_by("user_id").agg("row").iter_rows())
    return [np.array(found[user], np.int64) for user in part.queries.ids]


def plan(args: argparse.Namespace) -> Plan:
    """Return the rows of every log and question, null where the log is not there."""
    rows = list(_rows(args))
    root = Bench("", "", "", str(args.kept), args.quick).root
    return Plan({}, at_once(rows, root / "rows.json") if args.quick else rows)


def _rows(args: argparse.Namespace) -> Iterator[Row]:
    for name, questions in ASKED.items():
        missing = [file for file in text_worlds.FILES[name] if not (args.data / file).exists()]
        skipped = f"{missing[0]} is not in --data, nor in ATTUNE_DATA" if missing else ""
        for question in questions:
            given = {
                "name": name, "question": question, "data": args.data, "kept": args.kept, "quick": args.quick,
            }  # fmt: skip
            bench = Bench(name, question, str(args.data), str(args.kept), args.quick)
            label = f"{name}_{question}_"
            first = [Task(choose, given), Task(content, {**given, "tune": False})]
            then = [Task(tune, {**given, "seed": seed}) for seed in bench.seeds]
            then += [Task(content, {**given, "tune": True})]
            for row in [*CONTENT, *TUNED, *(["popularity"] if question != "cold_items" else [])]:
                task, needs = Task(told, {**given, "row": row}), (*first, *(then if row in TUNED else ()))
                yield Row(label + row, task, FIGURES, READ, needs, facts=VALIDATED, skipped=skipped)
            if question == "warm":
                for row in ("blend", "blend_text"):
                    task = Task(blend, {**given, "texts": row == "blend_text"})
                    yield Row(
                        label + row, task, FIGURES, READ, tuple(first[:1]), facts=VALIDATED, skipped=skipped
                    )


if __name__ == "__main__":
    Benchmark("text_into_recommendations", "What words add to recommendations.", plan, public).main()
