"""RecTools' SASRec and its metrics: run by its own interpreter, with the work as JSON."""

import json
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import MAP, MRR, NDCG, HitRate, Precision, Recall, calc_metrics
from rectools.models import SASRecModel


class _Clock(Callback):
    """When each epoch ended and the training began; the trainer copies its callbacks, not their class."""

    times: ClassVar[list[tuple[float, float]]] = []  # on the wall, and on the processors

    def on_train_start(self, *_: Any) -> None:
        self.times.append((time.perf_counter(), time.process_time()))

    on_train_epoch_end = on_train_start


def sasrec(log: str, lists: str, epochs: int, batch_size: int, max_length: int, k: int) -> dict[str, Any]:
    """Train, and write everybody's lists of k unseen items beside."""
    frame = pd.read_csv(log, dtype={"user_id": str, "item_id": str})
    frame = frame.assign(**{Columns.Weight: 1.0, Columns.Datetime: pd.to_datetime(frame["time"], unit="s")})
    dataset = Dataset.construct(frame[[*Columns.Interactions]])
    clock = _Clock()

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=epochs, accelerator="cpu", callbacks=[clock], logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip

    model = SASRecModel(
        n_blocks=2, n_heads=1, n_factors=64, dropout_rate=0.2, session_max_len=max_length,
        loss="softmax", lr=1e-3, batch_size=batch_size, epochs=epochs, get_trainer_func=trainer,
        recommend_torch_device="cpu",
    )  # fmt: skip
    model.fit(dataset)
    users = frame["user_id"].unique()
    model.recommend(users, dataset, k=k, filter_viewed=True).to_csv(lists, index=False)
    seconds, cpu = np.median(np.diff(clock.times, axis=0)[1 if epochs > 1 else 0 :], axis=0).tolist()
    return {"seconds": seconds, "cpu_s": cpu, "epochs": epochs}


def metrics(folder: str, sizes: dict[str, int], depth: int, ks: list[int], repeats: int) -> dict[str, Any]:
    """Measure the lists and the truth in a folder; `sizes`: how many users (u) and items (i) have names."""
    users, items = (np.array([f"{kind}{n:06}" for n in range(size)], object) for kind, size in sizes.items())
    frames = []
    for name in ("lists", "truth"):
        user, item = np.load(Path(folder) / f"{name}.npy")
        frames.append(pd.DataFrame({Columns.User: users[user], Columns.Item: items[item]}))
    lists, truth = frames
    few = users[:10]
    lists[Columns.Rank] = np.arange(len(lists)) % depth + 1
    kinds = {
        "recall": Recall,
        "precision": Precision,
        "ndcg": NDCG,
        "hit_rate": HitRate,
        "mrr": MRR,
        "map": MAP,
    }
    wanted = {f"{name}@{k}": kind(k=k) for name, kind in kinds.items() for k in ks}
    calc_metrics(wanted, lists.head(10 * depth), truth[truth[Columns.User].isin(few)])
    walls, cpus, found = [], [], {}
    for _ in range(repeats):
        begun, spent = time.perf_counter(), time.process_time()
        found = calc_metrics(wanted, lists, truth)
        walls.append(time.perf_counter() - begun)
        cpus.append(time.process_time() - spent)
    shown = {name: float(found[name]) for name in ("recall@10", "map@10")}
    return {"seconds": min(walls), "cpu_s": min(cpus), "metrics": len(kinds), **shown}


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(json.dumps({"sasrec": sasrec, "metrics": metrics}[asked.pop("work")](**asked)))
