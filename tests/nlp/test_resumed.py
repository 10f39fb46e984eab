"""Trainings of texts that are killed inside an epoch go on from their last step to the same bits."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from nlp.classifier_config import ClassifierConfig
from nlp.classify import train
from nlp.encoder import EncoderConfig
from nlp.finetune import FinetuneConfig, finetune
from nlp.pairs import PAIRS
from nlp.pretrain import PretrainConfig, pretrain
from profiles import manifest
from recsys import training, watch


class Killed(Exception):
    pass


def pretrained(model: Path, place: Path) -> Path:
    texts = [f"{a} {b} {n}" for a in ("tea", "rain", "snow") for b in ("is hot", "falls") for n in range(6)]
    config = PretrainConfig(
        vocabulary=100, factors=16, layers=1, heads=2, max_tokens=16, epochs=2, batch_size=4,
        precision="float32",
    )  # fmt: skip
    return pretrain(texts, config, place)


def finetuned(model: Path, place: Path) -> Path:
    """Three phases, with drawn negatives, dropout, chunks, and a head of its own."""
    opposite = [("hot", "cold"), ("big", "small"), ("day", "night")]
    rows = [(f"{a} {n}", f"{b} thing", "u") for n in range(6) for a, b in opposite]
    pairs = PAIRS.conform(pl.DataFrame(rows, schema=["left", "right", "user_id"], orient="row"))
    hard = pl.DataFrame({"user_id": ["u"] * 3, "text": ["rain", "snow", "hail"]})
    config = FinetuneConfig(
        model=str(model), mlm_epochs=1, simcse_epochs=1, epochs=2, batch_size=4, max_tokens=8, patience=3,
        chunk_tokens=32, pooling="attention", precision="float32", learning_rate=1e-3,
    )  # fmt: skip
    return finetune(pairs, pairs.head(5), config, place, hard=hard).folder


def classified(model: Path, place: Path) -> Path:
    texts = [f"{word} now {n}" for n in range(12) for word in ("pay", "fly", "eat")]
    config = ClassifierConfig(
        encoder=EncoderConfig(model=str(model), max_tokens=8, precision="float32"), epochs=3, batch_size=6,
        mixup=0.4, r_drop=0.5, contrastive=0.1, average_epochs=2, members=2, precision="float32",
    )  # fmt: skip
    train(texts, [text.split()[0] for text in texts], config, place / "made")
    return place / "made"


Make = Callable[[Path, Path], Path]


def files(folder: Path) -> dict[str, str]:
    found: dict[str, str] = manifest.verify(folder)["files"]
    return found


def counted(monkeypatch: pytest.MonkeyPatch, told: Callable[[int], None]) -> None:
    """Let every step of every fit be told, numbered over all fits."""
    epoch, count = training._Loop._epoch, [0]

    def watched(self: training._Loop, number: int, batches, random):
        loss = self.task.loss

        def stepped(rows: np.ndarray, drawn: np.random.Generator) -> torch.Tensor:
            count[0] += 1
            told(count[0])
            return loss(rows, drawn)

        object.__setattr__(self.task, "loss", stepped)
        try:
            return epoch(self, number, batches, random)
        finally:
            object.__setattr__(self.task, "loss", loss)

    monkeypatch.setattr(training._Loop, "_epoch", watched)


@pytest.mark.parametrize("make", [pretrained, finetuned, classified])
def test_killed_at_random_steps(make: Make, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps: list[int] = []
    with monkeypatch.context() as patch:
        counted(patch, steps.append)
        whole = make(tiny, tmp_path / "whole")
    random = np.random.default_rng(len(steps))
    kills = sorted(random.choice(np.arange(2, len(steps)), 5, replace=False).tolist())
    done = 0

    def kill(step: int) -> None:
        nonlocal done
        if kills and done + 1 == kills[0]:
            kills.pop(0)
            raise Killed
        done += 1

    counted(monkeypatch, kill)
    for _ in range(5):
        with pytest.raises(Killed), watch.watching(checkpoints=tmp_path / "kept", every=0):
            make(tiny, tmp_path / "resumed")
        assert list((tmp_path / "kept").rglob("state.safetensors"))
    with watch.watching(checkpoints=tmp_path / "kept"):
        resumed = make(tiny, tmp_path / "resumed")
    assert files(resumed) == files(whole)
    assert done == len(steps)  # none was taken twice
    if make is not classified:  # whose caller keeps what members may share
        assert not list((tmp_path / "kept").iterdir())


def test_a_process_that_was_killed_is_gone_on_from_by_another(tiny: Path, tmp_path: Path) -> None:
    """The whole training is one of the second process: the bits of a sum hang on the threads that add."""
    program = f"""
import importlib.util, os, signal, sys
from pathlib import Path
import torch
from recsys import watch
torch.set_num_threads(1)
spec = importlib.util.spec_from_file_location("told", {str(__file__)!r})
told = importlib.util.module_from_spec(spec)
spec.loader.exec_module(told)
tiny, place = Path({str(tiny)!r}), Path({str(tmp_path)!r})

class Patch:
    setattr = staticmethod(setattr)

def kill(step):
    if step == 19:
        os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[1] == "killed":
    told.counted(Patch, kill)
else:
    told.finetuned(tiny, place / "whole")
with watch.watching(checkpoints=place / "kept", every=0):
    told.finetuned(tiny, place / "resumed")
"""

    def run(how: str) -> "subprocess.CompletedProcess[bytes]":
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run([sys.executable, "-c", program, how], env=env, capture_output=True, check=False)

    killed = run("killed")
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not list((tmp_path / "resumed").glob("tuned-*"))
    assert list((tmp_path / "kept").rglob("epoch-*-step-*"))
    resumed = run("resumed")
    assert resumed.returncode == 0, resumed.stderr.decode()
    (one,), (other,) = ((tmp_path / name).glob("tuned-*") for name in ("resumed", "whole"))
    assert files(one) == files(other)
