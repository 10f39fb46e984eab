"""How fast recommenders learn and answer, beside their peers in the same run: same data, same settings.

Peers that need versions of their own get an environment each, made at the first run; where that cannot
be done their rows are null, with the reason. RecBole's epochs are timed over a few steps and scaled:
whole ones take minutes (LightGCN) and hours (SASRec, which makes a row of every prefix).

    python -m benchmarks.speed --data shared/data --rows topk,item_knn_fit
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import speed_accuracy as accuracy
from benchmarks import speed_live, speed_world
from benchmarks import speed_work as work
from benchmarks.ml1m_last import FILE
from benchmarks.process import Figures, Task
from benchmarks.report import KEPT, Benchmark, Plan, Row, count, public
from recsys.models import RECOMMENDERS

QUICK = 3_000
SIZES = {"100k": 100_000, "1m": 1_000_000, "10m": 10_000_000}
READ = (
    "recsys",
    "benchmarks/speed_world.py",
    "benchmarks/peer_environment.py",
    "benchmarks/leave_last_out.py",
)

Settings = Mapping[str, Any]


def plan(args: argparse.Namespace) -> Plan:
    """Rows with peers, one live row a recommender, and growth."""
    quick = args.quick
    gowalla: Settings = {"source": str(QUICK) if quick else str(args.data / "gowalla")}
    movies: Settings = {"data": args.data, "quick": quick}
    peers: Settings = {"peers": "" if quick else str(args.peers)}
    times: Settings = {"repeats": 1 if quick else 3}
    steps: Settings = {"steps": 2 if quick else args.steps}
    epochs: Settings = {"epochs": 1 if quick else args.epochs}
    no_gowalla = "" if quick or (args.data / "gowalla").exists() else "gowalla is not in --data"
    no_movies = "" if (args.data / FILE).exists() else f"{FILE} is not in --data"
    rows: list[Row] = []

    def pair(
        name: str,
        ours: tuple[Callable[..., Figures], Settings],
        peer: str,
        theirs: tuple[Callable[..., Figures], Settings],
        missing: str,
        figures: tuple[str, ...] = (),
    ) -> None:
        of = _row(peer, *theirs, skipped=missing, figures=figures)
        rows.extend([_row(name, *ours, peer=of, skipped=missing, figures=figures), of])

    pair(
        "lightgcn_step", (work.lightgcn_step, gowalla | {"steps": 20}),
        "pyg_lightgcn_step", (work.pyg_lightgcn_step, gowalla | {"steps": 2}), no_gowalla,
    )  # fmt: skip
    pair(
        "lightgcn_epoch", (work.lightgcn_epoch, gowalla | {"steps": 5 * steps["steps"]}),
        "recbole_lightgcn_epoch", (work.recbole_lightgcn, gowalla | peers | steps), no_gowalla,
    )  # fmt: skip
    same: Settings = {"users": 20 if quick else 600, "epochs": 1 if quick else 50}
    pair(
        "lightgcn_small", (accuracy.lightgcn, gowalla | same),
        "recbole_lightgcn_small", (accuracy.recbole_lightgcn, gowalla | same | peers),
        no_gowalla or ("quick" if quick else ""), (f"ndcg@{work.K}",),
    )  # fmt: skip
    both = movies | epochs
    ndcg = ("ndcg@10",)
    pair(
        "sasrec_epoch", (work.sasrec_epoch, both),
        "recbole_sasrec_epoch", (work.recbole_sasrec, movies | peers | steps), no_movies,
    )  # fmt: skip
    pair(
        "sasrec_epoch_rectools", (work.sasrec_epoch, both),
        "rectools_sasrec_epoch", (work.rectools_sasrec, both | peers), no_movies, ndcg,
    )  # fmt: skip
    pair(
        "item_knn_fit", (work.item_knn_fit, gowalla | times),
        "implicit_item_knn_fit", (work.implicit_item_knn, gowalla | times), no_gowalla,
    )  # fmt: skip
    pair(
        "ease_fit", (work.ease_fit, movies | times),
        "lapack_inverse", (work.lapack_inverse, movies | times), no_movies,
    )  # fmt: skip
    for name, peer, other in (
        ("topk", "implicit_recommend", (work.implicit_recommend, gowalla | times)),
        ("topk_product", "bare_product", (work.bare_product, gowalla | times)),
        ("topk_faiss", "faiss_flat", (work.faiss_flat, gowalla | peers | times)),
    ):
        pair(name, (work.topk, gowalla | times), peer, other, no_gowalla)
    requests = 20 if quick else args.requests
    for name in RECOMMENDERS:
        asked = {**gowalla, "name": name, "requests": requests}
        rows.append(_row(f"live_{name}", speed_live.live, asked, figures=("p99_ms",), skipped=no_gowalla))
    for name, most in speed_live.GROWTH.items():
        for suffix, size in SIZES.items():
            asked = {"name": name, "interactions": min(size, QUICK) if quick else size}
            beyond = f"its fit is not for {size:,} interactions" if size > most else ""
            rows.append(_row(f"growth_{name}_{suffix}", speed_live.growth, asked, skipped=beyond))
    return Plan(_counts(gowalla["source"]) if not no_gowalla else {}, rows)


def _row(
    name: str,
    function: Callable[..., Figures],
    settings: Settings,
    figures: tuple[str, ...] = (),
    peer: Row | None = None,
    skipped: str = "",
) -> Row:
    return Row(name, Task(function, settings), ("seconds", *figures), READ, peer=peer, skipped=skipped)


def _counts(source: str) -> Mapping[str, int]:
    pairs = speed_world.pairs(source)
    return {
        "users": pairs["user"].n_unique(),
        "items": pairs["item"].n_unique(),
        "interactions": len(pairs),
    }


def options(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark alone takes."""
    add = parser.add_argument
    add("--peers", type=Path, default=KEPT / "peers", help="where peers are installed: %(default)s")
    add("--epochs", type=count, default=3, help="of SASRec, ours and RecTools': %(default)s")
    add("--steps", type=count, default=8, help="of RecBole's epochs that are timed: %(default)s")
    add("--requests", type=count, default=500, help="of each live row: %(default)s")
    public(parser)


if __name__ == "__main__":
    Benchmark("speed", "How fast recommenders learn and answer.", plan, options).main()
