"""A fit that is sent SIGKILL at random moments, also within a write, ends as one that was left alone."""

import json
import subprocess
import sys
from pathlib import Path

# Torch is loaded once: each attempt is a fork, killed after a while that is drawn, a longer one each time.
PROGRAM = """
import json, os, random, signal, sys, time
import numpy as np
import torch
from pathlib import Path
from recsys import training, watch
from recsys.training import Task, TrainingConfig

torch.set_num_threads(1)
root = Path(sys.argv[1])


def fit(name):
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    with training.reproducible(7):
        module = torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Linear(4, 1))

    def loss(rows, random):
        time.sleep(0.002)
        noise = torch.from_numpy(random.normal(size=len(rows)).astype(np.float32))
        return ((module(torch.from_numpy(x[rows])).squeeze(1) - noise) ** 2).mean()

    task = Task(module, training.shuffled(60, 8), loss, "x")
    with watch.watching(checkpoints=root / name, every=0):  # after every step
        trained = training.train(task, TrainingConfig(epochs=4, learning_rate=0.05, schedule="linear"))
    told = {n: v.tolist() for n, v in module.state_dict().items()} | {"losses": trained.losses}
    (root / f"{name}.json").write_text(json.dumps(told))


def forked():
    pid = os.fork()
    if not pid:
        try:
            fit("resumed")
            os._exit(0)
        finally:
            os._exit(1)
    return pid


fit("first")  # which loads what torch loads when it is used
begun = time.monotonic()
fit("whole")
lasts = time.monotonic() - begun
draw, kills, code = random.Random(0), 0, None
while code != 0 and kills < 60:
    pid = forked()
    time.sleep(draw.uniform(0.02, 0.4) * lasts * (1 + kills / 10))
    os.kill(pid, signal.SIGKILL)
    code = os.waitpid(pid, 0)[1]
    assert code in (0, signal.SIGKILL), code
    kills += code != 0
print(json.dumps(kills))
"""


def test_killed_at_random_moments(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) >= 3
    whole, resumed = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "resumed"))
    assert resumed == whole
    assert len(whole["losses"]) == 4
    left = [path for path in (tmp_path / "resumed").rglob("*") if path.is_file()]
    assert sorted(path.name for path in left) == ["manifest.json", "state.safetensors"]  # no half-written one
