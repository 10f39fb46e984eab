"""RecBole's LightGCN and SASRec: run by its own interpreter, with the work as JSON.

An epoch is its own loop over its own batches; `steps` above 0 stops after so many and scales the time.
"""

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import get_model, init_seed


def lightgcn(folder: str, name: str, steps: int, batch_size: int, layers: int) -> dict[str, Any]:
    """Train on `name`.train.inter; the other two files are there because it wants them."""
    return _epoch(*_lightgcn(folder, name, batch_size, layers), steps)


def lightgcn_vectors(folder: str, name: str, epochs: int, batch_size: int, layers: int) -> dict[str, Any]:
    """Train whole epochs on the same, and write the vectors of users and items, by number, beside it."""
    trainer, batches = _lightgcn(folder, name, batch_size, layers)
    begun, spent = time.perf_counter(), time.process_time()
    for epoch in range(epochs):
        trainer._train_epoch(batches, epoch)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - spent
    trainer.model.eval()
    for kind, vectors in zip(("user", "item"), trainer.model.forward(), strict=True):
        tokens = batches.dataset.field2id_token[f"{kind}_id"][1:].astype(int)  # the first is none
        np.save(Path(folder) / f"{kind}s.npy", vectors[1:].detach().numpy()[np.argsort(tokens)])
    return {"seconds": seconds, "cpu_s": cpu, "epochs": epochs}


def _lightgcn(folder: str, name: str, batch_size: int, layers: int) -> tuple[Any, Any]:
    own = {
        "benchmark_filename": ["train", "valid", "test"],
        "embedding_size": 64,
        "n_layers": layers,
        "reg_weight": 1e-4,
        "load_col": {"inter": ["user_id", "item_id"]},
    }
    return _prepared("LightGCN", folder, name, batch_size, own)


def sasrec(folder: str, name: str, steps: int, batch_size: int, max_length: int) -> dict[str, Any]:
    """Train on all prefixes of all but the last two of each user's items, each a row of its own."""
    own = {
        "MAX_ITEM_LIST_LENGTH": max_length,
        "hidden_size": 64,
        "inner_size": 64,
        "n_layers": 2,
        "n_heads": 1,
        "hidden_dropout_prob": 0.2,
        "attn_dropout_prob": 0.0,
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    }
    trainer, batches = _prepared("SASRec", folder, name, batch_size, own)
    return _epoch(trainer, batches, steps)


def _prepared(model: str, folder: str, name: str, batch_size: int, own: dict[str, Any]) -> tuple[Any, Any]:
    general = {
        "data_path": folder,
        "use_gpu": False,
        "state": "ERROR",
        "show_progress": False,
        "train_batch_size": batch_size,
        "learning_rate": 1e-3,
        "checkpoint_dir": folder,
    }
    sys.argv = sys.argv[:1]  # it reads the command line too
    config = Config(model=model, dataset=name, config_dict=general | own)
    init_seed(config["seed"], config["reproducibility"])
    batches, _, _ = data_preparation(config, create_dataset(config))
    return Trainer(config, get_model(model)(config, batches.dataset)), batches


def _epoch(trainer: Any, batches: Any, steps: int) -> dict[str, Any]:
    total = len(batches)
    taken = min(steps, total) if steps else total
    if steps:
        trainer._train_epoch(_Some(batches, 1), 0)  # the first step makes what the others reuse
    begun, spent = time.perf_counter(), time.process_time()
    trainer._train_epoch(_Some(batches, taken), 0)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - spent
    whole = total / taken
    return {"seconds": seconds * whole, "cpu_s": cpu * whole, "steps": total, "timed_steps": taken}


class _Some:
    """The first batches of a loader."""

    def __init__(self, batches: Any, number: int) -> None:
        self.batches, self.number = batches, number

    def __iter__(self) -> Any:
        return itertools.islice(iter(self.batches), self.number)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.batches, name)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    works = {"lightgcn": lightgcn, "lightgcn_vectors": lightgcn_vectors, "sasrec": sasrec}
    print(json.dumps(works[asked.pop("work")](**asked)))
