"""A search that is sent SIGKILL inside its trials takes no step of a training twice, and finds the same."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from serving.workspace import Workspace

pytest.importorskip("optuna")
pytest.importorskip("sklearn")

# All is loaded once: each run is a fork, which kills itself in the step after so many checkpoints.
PROGRAM = """
import json, os, shutil, signal, sys, traceback
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import optuna, torch, transformers
from recsys import training
from serving.cli import app

torch.set_num_threads(1)
training._Loop._is_time = lambda self: self.folder is not None  # a checkpoint after every step
begin, keep, left = training._Loop.__init__, training.keep, None
files = {name: os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in ("steps", "kept")}


def counted(self, task, *others):
    def loss(rows, random):
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(files["steps"], b".")
        return task.loss(rows, random)

    begin(self, replace(task, loss=loss), *others)


def keeping(*told):
    global left
    keep(*told)
    os.write(files["kept"], b".")
    left = left and left - 1


training._Loop.__init__, training.keep = counted, keeping


def run(words, checkpoints):
    "Return how many steps were taken and checkpoints written, the trials, what is left, and how it ended."
    global left
    before, left, pid = [os.path.getsize(name) for name in files], checkpoints, os.fork()
    if not pid:
        code = 1
        try:
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
                app([*words, "-w", "W", "--quiet"], standalone_mode=False)
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    code = os.waitpid(pid, 0)[1]
    trials = [json.loads(line) for path in Path("W/tuning").glob("*.jsonl") for line in open(path)]
    steps, kept = (os.path.getsize(name) - size for name, size in zip(files, before))
    unended = len(list(Path("W/cache/training").rglob("epoch-*")))
    return {"steps": steps, "kept": kept, "trials": trials, "unended": unended, "code": code}


found = {}
for name, words in json.loads(sys.argv[1]).items():
    whole = run(words, None)
    shutil.rmtree("W/tuning")
    found[name] = [whole]
    first = whole["kept"] // 4
    for checkpoints in (first, whole["kept"] - 1 - first, None):  # within the first trial, and the last epoch
        found[name].append(run(words, checkpoints))
    shutil.rmtree("W/tuning")
print(json.dumps(found))
"""

TABLES = """
[pairs]
kinds = ["written", "queries"]
each = 1
[finetune]
model = "{model}"
epochs = 2
batch_size = 32
max_tokens = 16
[recommenders.mult_vae]
epochs = 3
hidden = 16
latent = 8
"""


def test_a_killed_trial_goes_on(workspace: Workspace, tiny_bert: Path, tmp_path: Path) -> None:
    assert workspace.config is not None
    workspace.config.write_text(workspace.config.read_text() + TABLES.format(model=tiny_bert))
    workspace.folder.rename(tmp_path / "W")
    labels = np.random.default_rng(0).choice(["pay", "fly", "eat"], size=40)
    texts = [f"i want to {word} now, number {n}" for n, word in enumerate(labels)]
    pl.DataFrame({"text": texts, "label": labels}).write_csv(tmp_path / "train.csv")
    plain = ["--trials", "2", "--only", "learning_rate", "-c", "W/attune.toml"]
    given = {"encoder.model": tiny_bert, "epochs": 2, "batch_size": 8}
    words = {
        "classify": [
            "tune", "classify", *plain, "--file", "train.csv", "--folds", "2",
            *(word for name, value in given.items() for word in ("--set", f"{name}={value}")),
        ],
        "finetune": ["tune", "finetune", *plain],
        "mult_vae": ["tune", "mult_vae", *plain],
    }  # fmt: skip
    command = [sys.executable, "-c", PROGRAM, json.dumps(words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    for name, (whole, *parts) in json.loads(done.stdout).items():
        assert [part["code"] for part in (whole, *parts)] == [0, 9, 9, 0], (name, done.stderr[-3000:])
        assert sum(part["steps"] for part in parts) == whole["steps"] > 3, name  # none is taken twice
        assert sum(part["kept"] for part in parts) == whole["kept"]
        assert [len(part["trials"]) for part in parts] == [0, 1, 2]
        assert parts[0]["unended"] > 0
        assert parts[1]["unended"] > 0
        assert whole["unended"] == parts[2]["unended"] == 0
        told = [[{**trial, "seconds": 0} for trial in part["trials"]] for part in (whole, parts[2])]
        assert told[0] == told[1], name
        assert all(trial["steps"] for trial in told[0]), name
