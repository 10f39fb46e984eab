"""Estimates of what another policy would have earned, beside Open Bandit Pipeline's on the same log.

A drawn log of lists of three out of ten items, each place chosen by itself; `ips` and `snips` weigh by
position, `cascade` and `list` as their names say. The peer runs in an environment of its own; `ratio` is of
what both say of `ips`, so 1 where they agree.

    python -m benchmarks.off_policy
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.peer_environment import asked
from benchmarks.process import Figures, Task
from benchmarks.report import KEPT, Benchmark, Plan, Row, count
from profiles import manifest
from recsys.off_policy import Method, Weighting, estimate

ITEMS, PLACES = 10, 3
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
    with manifest.building(place, {"answers": answers, "seed": seed}) as made:
        np.savez(
            made / "log.npz",
            action=action,
            reward=(random.random(good.shape) < good).astype(float),
            propensity=np.take_along_axis(logging, action[:, :, None], axis=2)[:, :, 0],
            target=target,
        )
    return {}


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers: np.ndarray = np.exp(logits)
    return powers / powers.sum(axis=2, keepdims=True)


def ours(folder: str) -> Figures:
    """Estimate in the four ways."""
    log = np.load(Path(folder) / "log.npz")
    action = log["action"]
    answer, rank = (index.ravel() for index in np.indices(action.shape))
    rows = pl.DataFrame(
        {
            "answer": pl.Series(answer).cast(pl.String),
            "user_id": pl.Series(answer).cast(pl.String),
            "item_id": pl.Series(action.ravel()).cast(pl.String),
            "rank": rank + 1,
            "propensity": log["propensity"].ravel(),
            "target": np.take_along_axis(log["target"], action[:, :, None], axis=2).ravel(),
            "reward": log["reward"].ravel(),
        }
    )
    return {name: estimate(rows, *way).value for name, way in ESTIMATES.items()}


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
    folder = args.data / f"off-policy-{manifest.content_key(answers, args.seed)}"
    made = Task(make, {"folder": folder, "answers": answers, "seed": args.seed})
    figures, read = (*ESTIMATES,), ("recsys/off_policy.py", "benchmarks/peer_obp.py")
    peers = "" if args.quick else str(args.peers)
    peer = Row("obp", Task(obp, {"folder": folder, "peers": peers}), figures, read, (made,), None, "ips")
    own = Row("estimates", Task(ours, {"folder": folder}), figures, read, (made,), peer, "ips")
    return Plan({"answers": answers, "items": ITEMS}, [own, peer])


if __name__ == "__main__":
    Benchmark("off_policy", "Estimates of another policy's reward.", plan, options).main()
