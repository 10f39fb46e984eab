"""Two processes that torchrun starts fit what one process fits, and say when they cannot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from profiles.schema import ITEMS
from recsys import watch
from recsys.dataset import Catalogue, Dataset, Queries
from recsys.models import RECOMMENDERS
from recsys.recommender import Recommender
from recsys.sequences import Tokens

ROOT = Path(__file__).parents[2]

# SGD, because AdamW makes a step of full size out of a gradient that is only rounding.
STEPS = {"optimizer": "sgd", "learning_rate": 0.5, "schedule": "linear", "clip": 0.5, "epochs": 6}
SASREC = STEPS | {
    "factors": 8, "max_length": 6, "dropout": 0.0, "batch_size": 7, "repeats": "sum", "patience": 6,
    "precision": "float32",
}  # fmt: skip
LIGHTGCN = {"factors": 4, "epochs": 2, "batch_size": 64}  # draws negatives, each rank its own

SCRIPT = """
import json
import os
import sys
from pathlib import Path
import polars as pl
from profiles.schema import ITEMS
from recsys import watch
from recsys.dataset import Catalogue, Dataset
from recsys.models import RECOMMENDERS

here, rank = Path(sys.argv[1]), os.environ["RANK"]
log = pl.read_parquet(here / "log.parquet")
last = log["timestamp"].max()
train = Dataset.of(log, Catalogue.of(ITEMS.empty(), log, last), last)
for label, (name, settings) in json.loads((here / "fits.json").read_text()).items():
    kind, told = RECOMMENDERS[name], []
    with watch.watching(told.append, here / "checkpoints", every=0):
        kind(kind.config_class(**settings)).fit(train).save(here / rank / label, name)
    told = [(p.epoch, p.loss, p.validation) for p in told]
    (here / rank / f"{label}.json").write_text(json.dumps(told))
kind = RECOMMENDERS["sasrec"]
odd = kind(kind.config_class(seed=int(rank), epochs=1))
try:
    odd.fit(train)
except Exception as error:
    (here / rank / "error.txt").write_text(f"{type(error).__name__}: {error}")
"""


def state(folder: Path) -> bytes:
    return (folder / "state.safetensors").read_bytes()


@pytest.fixture(scope="module")
def fitted(lopsided, tmp_path_factory) -> Path:
    """A folder of what each of two ranks fitted on the lopsided world."""
    here = tmp_path_factory.mktemp("ranks")
    lopsided.log.write_parquet(here / "log.parquet")
    fits = {"sasrec": ("sasrec", SASREC), "again": ("sasrec", SASREC), "lightgcn": ("lightgcn", LIGHTGCN)}
    (here / "fits.json").write_text(json.dumps(fits))
    (here / "fit.py").write_text(SCRIPT)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([*start, str(here / "fit.py"), str(here)], env=environment, check=True, timeout=300)
    return here


@pytest.fixture(scope="module")
def alone(lopsided) -> tuple[Recommender, list[watch.Progress], Queries]:
    """What one process fits of the same, what it told, and whom to ask about."""
    last = lopsided.log["timestamp"].max()
    catalogue = Catalogue.of(ITEMS.empty(), lopsided.log, last)
    kind, told = RECOMMENDERS["sasrec"], []
    with watch.watching(told.append, device="cpu"):
        model = kind(kind.config_class(**SASREC)).fit(Dataset.of(lopsided.log, catalogue, last))
    users = lopsided.log["user_id"].unique().sort().to_list()
    return model, told, catalogue.queries(users, lopsided.log, last)


def test_two_ranks_fit_what_one_process_fits(fitted, alone):
    model, _, queries = alone
    both = RECOMMENDERS["sasrec"].load(fitted / "0" / "sasrec")
    np.testing.assert_allclose(both.factors, model.factors, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(both.score(queries), model.score(queries), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("label", ["sasrec", "again", "lightgcn"])
def test_all_ranks_end_with_the_same_bits(label, fitted):
    assert state(fitted / "0" / label) == state(fitted / "1" / label)


def test_rank_0_alone_tells_and_keeps_and_all_go_on_from_it(fitted, alone):
    _, told, _ = alone
    ours = json.loads((fitted / "0" / "sasrec.json").read_text())
    assert json.loads((fitted / "1" / "sasrec.json").read_text()) == []
    assert [epoch for epoch, _, _ in ours] == [p.epoch for p in told]
    np.testing.assert_allclose([loss for _, loss, _ in ours], [p.loss for p in told], rtol=1e-5)
    np.testing.assert_allclose([value for *_, value in ours], [p.validation for p in told], rtol=1e-5)
    assert told[-1].loss < told[0].loss
    assert json.loads((fitted / "0" / "again.json").read_text()) == []
    assert state(fitted / "0" / "again") == state(fitted / "0" / "sasrec")
    assert len(list(fitted.glob("checkpoints/*/epoch-*"))) == 2


def test_ranks_that_differ_are_refused(fitted):
    for rank in "01":
        assert (fitted / rank / "error.txt").read_text() == (
            "ContractError: the 2 ranks of this fit differ in data, settings or the checkpoint they read: "
            "start all with the same files"
        )


def test_rows_weigh_what_their_targets_do(lopsided):
    data = Tokens.of(lopsided.train.histories, "sum", np.arange(14))
    for rows in ([3], [0, 5, 22], list(range(23))):
        batch = data.padded(np.array(rows), 4)
        expected = sum(batch.values[n, 1:length].sum() for n, length in enumerate(batch.lengths.tolist()))
        assert data.weight(np.array(rows), 4) == pytest.approx(float(expected))
