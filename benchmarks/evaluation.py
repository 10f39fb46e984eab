"""All accuracy metrics of 100,000 users' lists of 100 items at k = 5, 10 and 20.

From frames to one number a user: checks, coding and the search for hits are inside the time; reading the
frames from disk and compiling loops are not, for ours and for the peers. All are given the same ids, strings.
RecTools runs in an environment of its own. `gowalla_*`: lists of 20 for everybody asked on Gowalla and eight
metrics of them, beside the recommender's scores of the whole catalogue alone.

    python -m benchmarks.evaluation --gowalla shared/data/gowalla
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks import gowalla
from benchmarks.peer_environment import asked
from benchmarks.process import Figures, Task
from benchmarks.report import KEPT, Benchmark, Plan, Row, count
from profiles import manifest
from profiles.schema import ITEMS as ITEM_ATTRIBUTES
from recsys.dataset import Catalogue, Dataset, Queries
from recsys.evaluation import EvaluationConfig
from recsys.metrics import Context, measure
from recsys.models import RECOMMENDERS
from recsys.recommender import Recommender
from recsys.schema import RECOMMENDATIONS

BLOCK = 1024  # users scored at a time
ITEMS, DEPTH, TRUE, KS = 50_000, 100, 10, (5, 10, 20)
NAMES = (
    "recall", "recall_capped", "precision", "r_precision", "ndcg", "ndcg_graded", "hit_rate", "mrr", "map",
    "auc",
)  # fmt: skip
RANX = ("recall", "precision", "ndcg", "hit_rate", "mrr", "map")  # what it cuts at k
EVALUATED = ("popularity", "item_knn", "user_knn", "rp3beta", "als", "slim")
SHOWN = ("recall@10", "map@10")  # told by all, as a check that the same is measured


def make(folder: str, users: int, seed: int) -> Figures:
    """Write lists and truth of `users`: Parquet for ours and ranx, numbers (npy) for who cannot read it."""
    place = Path(folder)
    if place.exists():
        return {}
    random = np.random.default_rng(seed)
    # A list walks the catalogue by a stride without a common divisor, so that no item comes twice.
    first, stride = random.integers(0, ITEMS, users), random.choice([7, 11, 13, 9973, 20011], users)
    items = (first[:, None] + stride[:, None] * np.arange(DEPTH)) % ITEMS
    spread = random.geometric(0.04, (users, TRUE)).cumsum(axis=1)  # steps of the walk: some in the list
    true = (first[:, None] + stride[:, None] * (spread - 1)) % ITEMS
    with manifest.building(place, {"users": users, "seed": seed}) as made:
        for name, rows in (("lists", items), ("truth", true)):
            user = np.repeat(np.arange(users), rows.shape[1])
            np.save(made / f"{name}.npy", np.stack([user, rows.ravel()]))
            frame = pl.DataFrame({"user_id": _names("u", users, user), "item_id": _names("i", ITEMS, rows)})
            if name == "lists":
                rank = pl.int_range(pl.len()) % DEPTH + 1
                frame = RECOMMENDATIONS.conform(
                    frame.with_columns(rank=rank, score=1 / rank, source=pl.lit("model"))
                )
            frame.write_parquet(made / f"{name}.parquet")
    return {}


def _names(letter: str, size: int, rows: np.ndarray) -> pl.Series:
    names = pl.Series([f"{letter}{n:06}" for n in range(size)])
    return names.gather(rows.ravel())


def metrics(folder: str, repeats: int) -> Figures:
    """Measure every accuracy metric."""
    lists, truth = (pl.read_parquet(Path(folder) / f"{name}.parquet") for name in ("lists", "truth"))
    catalogue = pl.Series([f"i{n:06}" for n in range(ITEMS)])
    context = Context(catalogue, pl.DataFrame(schema={"item_id": pl.String, "count": pl.Int64}), 0)
    few = lists.head(10 * DEPTH)
    measure(few, truth, NAMES, KS, context)
    seconds, cpu, found = _timed(lambda: measure(lists, truth, NAMES, KS, context), repeats)
    means = found.group_by("metric", "k").agg(pl.col("value").mean())
    told = {f"{metric}@{k}": value for metric, k, value in means.rows()}
    return {"seconds": seconds, "cpu_s": cpu, "metrics": len(NAMES), **{name: told[name] for name in SHOWN}}


def ranx(folder: str, repeats: int) -> Figures:
    """Measure with ranx the six metrics that it cuts at k."""
    from ranx import Qrels, Run, evaluate

    lists, truth = (pl.read_parquet(Path(folder) / f"{name}.parquet") for name in ("lists", "truth"))
    kinds = {"user_id": object, "item_id": object}  # it takes no other strings
    run = lists.to_pandas().astype({**kinds, "score": float})
    true = truth.with_columns(weight=pl.lit(1, pl.Int64)).to_pandas().astype(kinds)
    asked_for = [f"{name}@{k}" for name in RANX for k in KS]

    def once(size: int) -> dict[str, float]:
        of = {"q_id_col": "user_id", "doc_id_col": "item_id", "score_col": "weight"}
        qrels = Qrels.from_df(true.head(size * TRUE), **of)
        scored = Run.from_df(run.head(size * DEPTH), **{**of, "score_col": "score"})
        found: dict[str, float] = evaluate(qrels, scored, asked_for)
        return found

    once(10)
    seconds, cpu, found = _timed(lambda: once(len(truth)), repeats)
    return {"seconds": seconds, "cpu_s": cpu, "metrics": len(RANX), **{n: float(found[n]) for n in SHOWN}}


def rectools(folder: str, repeats: int, peers: str) -> Figures:
    """Measure with RecTools the same six."""
    sizes = {"u": len(np.load(Path(folder) / "truth.npy", mmap_mode="r")[0]) // TRUE, "i": ITEMS}
    at = {"folder": folder, "sizes": sizes, "depth": DEPTH, "ks": KS, "repeats": repeats}
    return asked(Path(peers), "rectools", "metrics", **at)


def evaluated(folder: str, name: str, quick: bool) -> Figures:
    """Ask a fitted recommender for everybody's list, and measure them."""
    model, queries, catalogue, truth, popularity = _asked(folder, name, quick)
    config, context = EvaluationConfig(), Context(catalogue.items.ids, popularity, len(queries))

    def work() -> pl.DataFrame:
        lists = model.recommend(queries, gowalla.K, catalogue, name)
        return measure(lists, truth, config.metrics, config.ks, context)

    return _seconds(work)


def scored(folder: str, name: str, quick: bool) -> Figures:
    """Score the whole catalogue for the same users, in blocks, and nothing else."""
    model, queries, *_ = _asked(folder, name, quick)

    def work() -> None:
        for _, block in queries.blocks(BLOCK):
            model.score(block)

    return _seconds(work)


def _seconds(work: Callable[[], Any]) -> Figures:
    work()
    seconds, cpu, _ = _timed(work, 2)
    return {"seconds": seconds, "cpu_s": cpu}


def _asked(
    folder: str, name: str, quick: bool
) -> tuple[Recommender, Queries, Catalogue, pl.DataFrame, pl.DataFrame]:
    """Return the fitted recommender, who asks it, the catalogue, what is true, and how often items occur."""
    known, asked_for = gowalla.split(Path(folder).parent, None, quick)
    catalogue = Catalogue.of(ITEM_ATTRIBUTES.empty(), known, gowalla.AS_OF)
    train = Dataset.of(known, catalogue, gowalla.AS_OF, timeless=True)
    kind = RECOMMENDERS[name]
    model = kind(kind.config_class()).fit(train)
    truth = asked_for.join(known.select("item_id").unique(), on="item_id", how="semi")
    truth = truth.select("user_id", "item_id")
    users = truth["user_id"].unique().sort().to_list()
    counts = known.group_by("item_id").agg(count=pl.len().cast(pl.Int64))
    return model, catalogue.queries(users, known, gowalla.AS_OF), catalogue, truth, counts


def _timed(work: Callable[[], Any], repeats: int) -> tuple[float, float, Any]:
    """Return the best wall and processor seconds of some runs, and what the last found."""
    walls, cpus, found = [], [], None
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        found = work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return min(walls), min(cpus), found


def options(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark alone takes."""
    parser.add_argument("--users", type=count, help="users measured; default: 100,000")
    parser.add_argument(
        "--peers", type=Path, default=KEPT / "peers", help="where peers are installed: %(default)s"
    )
    parser.add_argument(
        "--gowalla", type=Path, default=Path(os.environ.get("ATTUNE_DATA", "data"), "gowalla"),
        help="Gowalla's folder: %(default)s",
    )  # fmt: skip


def plan(args: argparse.Namespace) -> Plan:
    """Ours against each peer."""
    users = args.users or (1_000 if args.quick else 100_000)
    folder = args.data / f"lists-{manifest.content_key(users, args.seed)}"
    made = Task(make, {"folder": folder, "users": users, "seed": args.seed})
    timed = {"folder": folder, "repeats": 1 if args.quick else 3}
    once = {"folder": folder, "repeats": 1}
    peers = {
        "ranx": Task(ranx, once),
        "rectools": Task(rectools, {**once, "peers": "" if args.quick else str(args.peers)}),
    }
    read = ("recsys/metrics", "benchmarks/peer_environment.py", "benchmarks/peer_rectools.py")
    figures = ("seconds", *SHOWN)
    rows = []
    for row, peer in (("metrics_100k", "ranx"), ("metrics_100k_rectools", "rectools")):
        of = Row(peer, peers[peer], figures, read, needs=(made,))
        rows += [Row(row, Task(metrics, timed), figures, read, needs=(made,), peer=of), of]
    missing = "" if args.gowalla.exists() else f"no {args.gowalla}: name Gowalla's folder by --gowalla"
    read = ("recsys", "benchmarks/gowalla.py")
    for name in EVALUATED:
        settings = {"folder": args.gowalla, "name": name, "quick": args.quick}
        of = Row(f"gowalla_{name}_scores", Task(scored, settings), ("seconds",), read, skipped=missing)
        task = Task(evaluated, settings)
        rows += [Row(f"gowalla_{name}", task, ("seconds",), read, peer=of, skipped=missing), of]
    return Plan({"users": users, "items": ITEMS, "recommendations": users * DEPTH}, rows)


if __name__ == "__main__":
    Benchmark("evaluation", "How fast lists are measured.", plan, options).main()
