"""RecTools' SASRec: run by its own interpreter, with the work as JSON."""

import json
import sys
import time
from typing import Any, ClassVar

import pandas as pd
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


class _Clock(Callback):
    """When each epoch ended and the training began; the trainer copies its callbacks, not their class."""

    times: ClassVar[list[float]] = []

    def on_train_start(self, *_: Any) -> None:
        self.times.append(time.perf_counter())

    def on_train_epoch_end(self, *_: Any) -> None:
        self.times.append(time.perf_counter())


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
    apart = [after - before for before, after in zip(clock.times, clock.times[1:], strict=False)]
    return {"seconds": sorted(apart)[len(apart) // 2], "epochs": epochs}


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(json.dumps({"sasrec": sasrec}[asked.pop("work")](**asked)))
