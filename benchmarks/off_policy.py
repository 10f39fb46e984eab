"""Estimates of what another policy would have earned, beside Open Bandit Pipeline's on the same log.

A drawn log of lists of three out of ten items, each place chosen by itself; `ips` and `snips` weigh by
position, `cascade` and `list` as their names say; `dr` is given the same expected rewards in both, learned
from other users as `recsys.off_policy` says. The peer runs in an environment of its own; `ratio` is of what
both say of `ips`, so 1 where they agree.

    python -m benchmarks.off_policy
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.peer_environment import asked
from benchmarks.process import Figures, Task
from benchmarks.report import KEPT, Benchmark, Plan, Row, count
from profiles import manifest
from recsys.off_policy import FOLDS, Method, Weighting, estimate, rewards

ITEMS, PLACES = 10, 3
DR = "dr"
ESTIMATES: dict[str, tuple[Method, Weighting]] = {
    "ips": ("ips", "position"),
    "snips": ("snips", "position"),
    "cascade": ("ips", "cascade"),
    "list": ("ips", "list"),
}


def make(folder: str, answers: int, seed: int) -> Figures:
    """Draw answers of two policies that know the user, and rewards: arrays (answers, PLACES) and chances."""
    place = Path(folder)
    if place.exists():
        return {}
    random = np.random.default_rng(seed)
    taste = random.normal(size=(answers, PLACES, ITEMS))
    logging, target = (_softmax(taste * sharp + random.normal(size=taste.shape)) for sharp in (0.5, 1.5))
    draws = random.random((answers, PLACES, 1))
    action = (logging.cumsum(axis=2) < draws).sum(axis=2).clip(max=ITEMS - 1)
    good = np.take_along_axis(1 / (1 + np.exp(2 - taste)), action[:, :, None], axis=2)[:, :, 0]
    arrays = {
        "action": action,
        "reward": (random.random(good.shape) < good).astype(float),
        "propensity": np.take_along_axis(logging, action[:, :, None], axis=2)[:, :, 0],
        "target": target,
    }
    with manifest.building(place, {"answers": answers, "seed": seed}) as made:
        np.savez(made / "log.npz", **arrays, expected=_expected(_logged(arrays)))
    return {}


def _logged(log: Mapping[str, np.ndarray]) -> pl.DataFrame:
    """Return the log's rows as `estimate` takes them: an answer is a user."""
    action = log["action"]
    answer, rank = (index.ravel() for index in np.indices(action.shape))
    name = pl.Series(answer).cast(pl.String)
    return pl.DataFrame(
        {
            "answer": name,
            "user_id": name,
            "item_id": pl.Series(action.ravel()).cast(pl.String),
            "rank": rank + 1,
            "propensity": log["propensity"].ravel(),
            "target": np.take_along_axis(log["target"], action[:, :, None], axis=2).ravel(),
            "reward": log["reward"].ravel(),
        }
    )


def _expected(rows: pl.DataFrame) -> np.ndarray:
    """Return what each item would earn at a place, by users of other folds, (answers, PLACES, ITEMS)."""
    users = rows["user_id"].unique().sort()
    found = np.empty((len(users), PLACES, ITEMS))
    for part in range(FOLDS):
        here = users.gather_every(FOLDS, part)
        ranks, items = rewards(rows.filter(~pl.col("user_id").is_in(here.implode())))
        table = [
            [ranks[place + 1] * items.get(str(item), 1.0) for item in range(ITEMS)] for place in range(PLACES)
        ]
        found[here.cast(pl.Int64).to_numpy()] = table
    return found


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers: np.ndarray = np.exp(logits)
    return powers / powers.sum(axis=2, keepdims=True)


def ours(folder: str) -> Figures:
    """Estimate in the five ways."""
    log = np.load(Path(folder) / "log.npz")
    rows = _logged(log)
    answer, place, item = (index.ravel() for index in np.indices(log["target"].shape))
    shown = {"answer": pl.Series(answer).cast(pl.String), "item_id": pl.Series(item).cast(pl.String)}
    actions = pl.DataFrame({**shown, "rank": place + 1, "probability": log["target"].ravel()})
    dr = {DR: estimate(rows, "dr", actions=actions).value}
    return {name: estimate(rows, *way).value for name, way in ESTIMATES.items()} | dr


def obp(folder: str, peers: str) -> Figures:
    """Estimate with the peer."""
    return asked(Path(peers), "obp", "estimates", log=Path(folder) / "log.npz")


def options(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark alone takes."""
    parser.add_argument("--answers", type=count, help="lists logged; default: 20,000")
    parser.add_argument(
        "--peers", type=Path, default=KEPT / "peers", help="where peers are installed: %(default)s"
    )


def plan(args: argparse.Namespace) -> Plan:
    """Ours against the peer."""
    answers = args.answers or (500 if args.quick else 20_000)
    folder = args.data / f"off-policy-{manifest.content_key(2, answers, args.seed)}"
    made = Task(make, {"folder": folder, "answers": answers, "seed": args.seed})
    figures, read = (*ESTIMATES, DR), ("recsys/off_policy.py", "benchmarks/peer_obp.py")
    peers = "" if args.quick else str(args.peers)
    peer = Row("obp", Task(obp, {"folder": folder, "peers": peers}), figures, read, (made,), None, "ips")
    own = Row("estimates", Task(ours, {"folder": folder}), figures, read, (made,), peer, "ips")
    return Plan({"answers": answers, "items": ITEMS}, [own, peer])


if __name__ == "__main__":
    Benchmark("off_policy", "Estimates of another policy's reward.", plan, options).main()
