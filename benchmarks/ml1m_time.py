"""Global temporal split of MovieLens 1M: every recommender, HR@10 and NDCG@10 in full ranking, and what a
difference is worth.

Ratings of any value, 5-core, consecutive repeats dropped, those without a time dropped and counted; in
order of (timestamp, seq_pos, row). Train is what lies at or before the 0.9 quantile of the times. Who did
something after it is a test user: the last item is the target, all before it is history, that after the
cut too. Validation is by users: some of train are taken out whole and asked for their last item. The time
of asking is that of the newest interaction, so no recommender sees when the target came.

Of 1,209 test users 22 % did several things at the last moment: `ndcg@10_ties` is the mean over 20 orders
of what is tied, drawn for the same fit; `ndcg@10_se` is one standard error over users, `gain` of the blend
is over the best single row, with its paired 95 % interval. `--seeds 1` is quicker than the protocol's three.

    python -m benchmarks.ml1m_time --data DIR
"""

import argparse

from benchmarks import selection, temporal
from benchmarks.ml1m_last import GRADIENTS
from benchmarks.report import Benchmark, Plan
from benchmarks.selection import Grids
from benchmarks.transductive import MORE, TRANSDUCTIVE
from benchmarks.trials import Table

GRIDS: Grids = {
    "popularity": [{}, *({"half_life_days": d} for d in (3.0, 10.0, 30.0, 90.0))],
    "random": [{}],
    "user_knn": [
        {"neighbours": n, "item_power": p, "sharpness": s}
        for n in (100, 300) for p in (0.0, 0.5) for s in (1.0, 3.0)
    ],
    "item_knn": [
        {"neighbours": n, "shrinkage": s, "half_life_days": d}
        for n in (10, 30, 100) for s in (0.0, 10.0) for d in (None, 30.0)
    ],
    "rp3beta": [
        {"neighbours": n, "alpha": a, "beta": b} for n in (20, 100) for a in (0.7, 1.0) for b in (0.3, 0.6)
    ],
    "ease": [{"l2": l2} for l2 in (100.0, 200.0, 400.0, 800.0, 1600.0)],
    "slim": [{"l1": l1, "l2": l2} for l1 in (1.0, 3.0) for l2 in (30.0, 100.0)],
    "graph_filter": [{"factors": f, "low_pass": w} for f in (128, 512) for w in (0.05, 0.2)],
    "als": [{"factors": f, "alpha": a, "l2": 10.0} for f in (64, 128) for a in (0.3, 1.0)],
    "bpr": [{"factors": 64, "l2": r} for r in (0.003, 0.01)],
    "association_rules": [{"min_support": n} for n in (2, 10)],
    "sequential_ease": [
        {"l2": 100.0, "decay": 0.8, "horizon": 3},
        {"l2": 300.0, "decay": 0.8, "horizon": 3},
        {"l2": 100.0, "decay": 0.9, "horizon": 3},
        {"l2": 100.0, "decay": 0.8, "horizon": 6},
        {"l2": 300.0, "decay": 0.9, "horizon": 6},
    ],
    "covisitation": [
        {"gap_days": g, "recency": r, "direction": "forward"} for g in (0.1, 1.0, 30.0) for r in (0.7, 0.9)
    ],
    "category_popularity": [{}, {"half_life_days": 30.0}],
    "content_tags": [{}],
    "graph_content": GRADIENTS["lightgcn"],
    **GRADIENTS,
    "bert4rec": [{**config, "epochs": 50} for config in GRADIENTS["bert4rec"]],
}  # fmt: skip
SKIPPED = {
    "content_ease": "no texts: of the films this table reads the genres alone",
    "content_text": "no texts: of the films this table reads the genres alone",
    "content_attributes": "no attributes but genres, which content_tags reads",
    "content_vectors": "no vectors of films",
    **{
        name + TRANSDUCTIVE: "whoever is asked on the cut is not in its training, so has no trained vector"
        for name in MORE
    },
}

TABLE = Table("ml1m_time", temporal.stage, ("cut",), ("hit_rate", "ndcg"), 10, ("temporal",))


def plan(args: argparse.Namespace) -> Plan:
    """One row a recommender, and the blends; tells what was dropped."""
    found = selection.plan(TABLE, GRIDS, args, temporal.FILE, temporal.interactions, SKIPPED)
    undated = temporal.undated(args.data, args.quick) if found.data["users"] else 0
    return Plan({**found.data, "undated": undated}, found.rows)


def options(parser: argparse.ArgumentParser) -> None:
    """Fit what learns by gradients three times: at so few users one fit says little."""
    selection.options(parser)
    parser.set_defaults(seeds=3)


if __name__ == "__main__":
    Benchmark("ml1m_time", "Global temporal split of MovieLens 1M.", plan, options).main()
