"""Choosing on the cuts of a table, and scoring test once: single recommenders and the blend.

A validated row tries its grid on the cuts, takes the settings of the best mean NDCG, freezes them and the
epochs that were best, fits again on train with the cut, and scores test once. `blend` does the same with
weights: greedy, on the cuts' lists of its members as they were chosen.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.process import Figures, Task
from benchmarks.report import Plan, Row, count, public
from benchmarks.transductive import KINDS, TRANSDUCTIVE, transductive
from benchmarks.trials import STOPPING, TEST, Bench, Config, Table, means
from recsys.ranking import Ranked
from recsys.significance import paired
from serving.blend import fit_weights, fuse

FUSED = 2048  # users blended at once
DRAWN = 6000  # users of the cuts that the blend's weights are fitted on
ROUNDS = 40  # additions in the choice of weights
QUICK_EPOCHS = 2
# Members of `blend_side` alone.
LABELS = ("category_popularity", "content_tags", "content_text", "graph_content")

Grids = Mapping[str, Sequence[Config]]
Log = Callable[[Path, bool], pl.DataFrame]  # of a data folder, whether quick


def trial(table: str, data: str, kept: str, quick: bool, name: str, config: Config, part: str) -> Figures:
    """Do one trial, in a process of its own."""
    found = Bench.of(table, data, kept, quick).trial(name, config, part)
    return {key: value for key, value in found.items() if key != "others"}


def validated(
    table: str, data: str, kept: str, quick: bool, name: str, grid: Sequence[Config], seeds: int
) -> Figures:
    """Choose settings on the cuts, fit again, score test once; the mean where there are several seeds."""
    bench = Bench.of(table, data, kept, quick)
    _, valid, seconds = chosen(bench, name, grid)
    settings = refits(bench, name, grid, seeds)
    runs = [bench.trial(name, config, TEST) for config in settings]
    main = f"ndcg@{bench.table.k}"
    found: Figures = {key: float(np.mean([run[key] for run in runs])) for key in figures(bench.table)}
    found |= _sure(
        bench, _users(bench, name, settings), [o[main] for r in runs for o in r["others"].values()]
    )
    if len(runs) > 1:
        found[f"{main}_sd"] = float(np.std([run[main] for run in runs], ddof=1))
    shown = {key: value for key, value in settings[0].items() if key != "seed"}
    return found | {
        f"valid_{main}": valid,
        "select_s": seconds,
        "peak_mb": max(run["peak_mb"] for run in runs),
        "settings": json.dumps(shown),
    }


def chosen(bench: Bench, name: str, grid: Sequence[Config]) -> tuple[Config, float, float]:
    """Return the settings of the best mean NDCG over the cuts, that mean, and the seconds of all trials."""
    runs = [[bench.trial(name, config, cut) for cut in bench.table.cuts] for config in grid]
    scores = [float(np.mean([run[f"ndcg@{bench.table.k}"] for run in of])) for of in runs]
    best = int(np.argmax(scores))
    return grid[best], scores[best], sum(run["fit_s"] + run["rank_s"] for of in runs for run in of)


def refits(bench: Bench, name: str, grid: Sequence[Config], seeds: int) -> list[Config]:
    """Return the settings that test is scored with: one for each seed where gradients run."""
    config, _, _ = chosen(bench, name, grid)
    if "patience" in config:
        epochs = [bench.trial(name, config, cut)["epochs"] for cut in bench.table.cuts]
        kept = {key: value for key, value in config.items() if key not in STOPPING}
        config = {**kept, "epochs": max(1, round(float(np.mean(epochs))))}
    if KINDS[name].cost != "gradient":
        return [config]
    return [{**config, "seed": seed} for seed in range(seeds)]


def blend(table: str, data: str, kept: str, quick: bool, grids: Grids, seeds: int) -> Figures:
    """Fit weights on the cuts' lists of the members' chosen settings, then combine their lists for test.

    `gain` is how much NDCG the blend is above `best`, the best single row of test, with its paired 95 %
    interval. Of a member with several seeds the first is taken.
    """
    bench = Bench.of(table, data, kept, quick)
    picked = {name: chosen(bench, name, grid) for name, grid in grids.items()}
    cuts = []
    for cut in bench.table.cuts:
        stage = bench.stage(cut)
        lists = {name: bench.lists(name, config, cut) for name, (config, _, _) in picked.items()}
        cuts.append((lists, stage.asked[cut].rows(stage.train.catalogue)))
    weights = fit_weights(cuts, None, ROUNDS, bench.table.k, DRAWN)

    again = {name: refits(bench, name, grid, seeds) for name, grid in grids.items()}
    runs = [bench.trial(name, again[name][0], TEST) for name in weights]
    values = {
        asked: _measured(
            bench, {name: bench.lists(name, again[name][0], TEST, asked) for name in weights}, weights, asked
        )
        for asked in bench.stage(TEST).asked
    }
    found, users = means(values[TEST]), _ndcg(values[TEST])
    main = f"ndcg@{bench.table.k}"
    found |= _sure(bench, users, [means(v)[main] for asked, v in values.items() if asked != TEST])
    singles = {name: _users(bench, name, settings) for name, settings in again.items()}
    best = max(singles, key=lambda name: float(singles[name].mean()))
    gain = paired(users, singles[best])
    seconds = sum(spent for _, _, spent in picked.values()) + sum(r["fit_s"] + r["rank_s"] for r in runs)
    return found | {
        "best": best,
        "gain": gain.mean,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "seconds": seconds,
        "settings": json.dumps({name: round(weight, 3) for name, weight in weights.items()}),
    }


def combined(lists: Mapping[str, Ranked], weights: Mapping[str, float], k: int) -> Ranked:
    """Return the top k of the convex combination, some users at a time."""
    users = len(next(iter(lists.values())).rows)
    parts = []
    for start in range(0, users, FUSED):
        some = {
            n: Ranked(r.rows[start : start + FUSED], r.scores[start : start + FUSED])
            for n, r in lists.items()
        }
        parts.append(fuse(some, weights, None, k).ranked)
    return Ranked(np.concatenate([p.rows for p in parts]), np.concatenate([p.scores for p in parts]))


def figures(table: Table) -> tuple[str, ...]:
    """Return what every single row promises."""
    return (*(f"{metric}@{table.k}" for metric in table.metrics), "fit_s", "rank_s")


def plan(
    table: Table, grids: Grids, args: argparse.Namespace, file: str, log: Log, skipped: Mapping[str, str]
) -> Plan:
    """Return the rows of a table over `log`, those with trained users too; null where `file` is not there."""
    grids = {**grids, **transductive(grids)}
    users, items, interactions = 0, 0, 0
    if (args.data / file).exists():
        frame = log(args.data, args.quick)
        users, items, interactions = frame["user_id"].n_unique(), frame["item_id"].n_unique(), len(frame)
    else:
        skipped = {**skipped, **dict.fromkeys(grids, f"{file} is not in --data, nor in ATTUNE_DATA")}
    counts = {"users": users, "items": items, "interactions": interactions}
    facts = {"selection": "validated"}
    nulls = [
        Row(name, Task(validated), figures(table), facts=facts, skipped=reason)
        for name, reason in skipped.items()
        if name not in grids
    ]
    return Plan(counts, [*rows(table, grids, args, skipped), *nulls])


def rows(table: Table, grids: Grids, args: argparse.Namespace, skipped: Mapping[str, str]) -> list[Row]:
    """Return one validated row a recommender, null where `skipped` says why, and the blends.

    `--members` names who may be in them; none: all but the skipped and those that cannot be released, and
    those that read labels or texts in `blend_side` alone.
    """
    about = {"table": table.name, "data": args.data, "kept": args.kept / table.name, "quick": args.quick}
    if args.quick:
        grids = {name: [_quick(name, grid[0])] for name, grid in grids.items()}
    measured = ("recsys", "serving/blend.py", *(f"benchmarks/{n}.py" for n in ("trials", *table.protocol)))
    found = []
    for name, grid in grids.items():
        needs = tuple(
            Task(trial, {**about, "name": name, "config": dict(config), "part": cut})
            for config in grid
            for cut in table.cuts
        )
        task = Task(validated, {**about, "name": name, "grid": grid, "seeds": args.seeds})
        facts = {"selection": "validated"}
        reason = skipped.get(name, "")
        found.append(Row(name, task, figures(table), measured, needs, facts=facts, skipped=reason))
    members = [name for name in grids if name not in skipped and not name.endswith(TRANSDUCTIVE)]
    if args.members:
        members = [name.strip() for name in args.members.split(",")]
    for blended, names in {
        "blend": [name for name in members if name not in LABELS],
        "blend_side": members if set(members) & set(LABELS) else [],
    }.items():
        if not names:
            continue
        by_name = {row.name: row for row in found}
        first = tuple(need for name in names for need in (*by_name[name].needs, by_name[name].task))
        task = Task(blend, {**about, "grids": {name: grids[name] for name in names}, "seeds": args.seeds})
        promised = (*figures(table)[:-2], "seconds")
        facts = {"selection": "validated"}
        found.append(Row(blended, task, promised, measured, first, facts=facts))
    return found


def options(parser: argparse.ArgumentParser) -> None:
    """Add what the tables take beside what every benchmark takes."""
    add = parser.add_argument
    add(
        "--members",
        default="",
        help="who may be in the blends, by commas; default: every row that is not null",
    )
    add("--seeds", type=count, default=1, help="fits of a row that learns by gradients: %(default)s")
    public(parser)


def _quick(name: str, config: Config) -> Config:
    kept = {key: value for key, value in config.items() if key not in STOPPING}
    return {**kept, "epochs": QUICK_EPOCHS} if KINDS[name].cost == "gradient" else kept


def _measured(
    bench: Bench, lists: Mapping[str, Ranked], weights: Mapping[str, float], asked: str
) -> pl.DataFrame:
    stage = bench.stage(TEST)
    return bench.values(combined(lists, weights, bench.table.k), stage.asked[asked], stage.train.catalogue)


def _users(bench: Bench, name: str, settings: Sequence[Config]) -> np.ndarray:
    """Return each test user's NDCG, the mean over fits that differ in their seed."""
    stage = bench.stage(TEST)
    found = []
    for config in settings:
        bench.trial(name, config, TEST)
        ranked = bench.lists(name, config, TEST)
        found.append(_ndcg(bench.values(ranked, stage.asked[TEST], stage.train.catalogue)))
    mean: np.ndarray = np.mean(found, axis=0)
    return mean


def _ndcg(values: pl.DataFrame) -> np.ndarray:
    return values.filter(pl.col("metric") == "ndcg").sort("user_id")["value"].to_numpy()


def _sure(bench: Bench, users: np.ndarray, others: Sequence[float]) -> dict[str, Any]:
    """Return the standard error of the mean NDCG over users, and its mean over the other questions."""
    main = f"ndcg@{bench.table.k}"
    found = {f"{main}_se": float(users.std(ddof=1) / np.sqrt(len(users)))}
    return found | ({f"{main}_ties": float(np.mean(others))} if others else {})
