"""Whether what is quicker learns as well: LightGCN, ours and RecBole's, equal epochs on a part of Gowalla."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from benchmarks import peer_environment
from benchmarks.process import Figures
from benchmarks.speed_work import LAYERS, PAIRS, K, clocks
from recsys import training
from recsys.products import Table
from recsys.ranking import Barred


def parts(source: str, users: int) -> tuple[csr_matrix, csr_matrix]:
    """Return what the first users did in train and in test, over the items of their train."""
    train, test = (pl.read_parquet(Path(source) / f"{name}.parquet") for name in ("train", "test"))
    train = train.filter(pl.col("user") < users)
    rows = train.select(pl.col("item").unique().sort()).with_row_index("row")
    sides = []
    for part in (train, test.filter(pl.col("user") < users)):
        known = part.join(rows, on="item")
        ones = np.ones(len(known), np.float32)
        place = known["user"].to_numpy(), known["row"].to_numpy()
        sides.append(csr_matrix((ones, place), (users, len(rows))))
    return sides[0], sides[1]


def lightgcn(source: str, users: int, epochs: int) -> Figures:
    """Train on the part with the settings of the epoch that is timed."""
    from recsys.networks.lightgcn import LightGCNNetwork
    from recsys.sampling import sampler

    train, test = parts(source, users)
    with training.reproducible(0):
        drawn = sampler("uniform", np.ones(train.shape[1]))
        network = LightGCNNetwork(train, 64, LAYERS, True, "bpr", 1, 1e-4, drawn)
    owner = np.repeat(np.arange(users), np.diff(train.indptr))
    task = training.Task(
        network,
        training.shuffled(train.nnz, PAIRS),
        lambda rows, random: network.loss(owner[rows], train.indices[rows], random),
        "",
    )
    begun = clocks()
    training.train(task, training.TrainingConfig(batch_size=PAIRS, epochs=epochs))
    seconds, cpu = np.subtract(clocks(), begun).tolist()
    vectors = network().detach().numpy()
    found = ndcg(vectors[:users], vectors[users:], train, test)
    return {"seconds": seconds, "cpu_s": cpu, "epochs": epochs, f"ndcg@{K}": found}


def recbole_lightgcn(source: str, users: int, epochs: int, peers: str) -> Figures:
    """Have RecBole train on the same pairs for as many epochs, and rank by its vectors."""
    train, test = parts(source, users)
    pairs = pl.DataFrame(dict(zip(("user_id:token", "item_id:token"), train.nonzero(), strict=True)))
    with TemporaryDirectory(prefix="recbole-") as folder:
        (Path(folder) / "speed").mkdir()
        for name, part in (("train", pairs), ("valid", pairs[:10]), ("test", pairs[:10])):
            part.write_csv(Path(folder) / "speed" / f"speed.{name}.inter", separator="\t")
        found = peer_environment.asked(
            Path(peers), "recbole", "lightgcn_vectors",
            folder=folder, name="speed", epochs=epochs, batch_size=PAIRS, layers=LAYERS,
        )  # fmt: skip
        sides = [np.load(Path(folder) / f"{side}.npy") for side in ("users", "items")]
    return found | {f"ndcg@{K}": ndcg(*sides, train, test)}


def ndcg(users: np.ndarray, items: np.ndarray, train: csr_matrix, test: csr_matrix) -> float:
    """Return the mean NDCG@K of the products of vectors, what was done in train left out."""
    barred = Barred(np.zeros(len(items), bool), train.indptr.astype(np.int64), train.indices)
    (ranked,) = Table(items).best([(users.astype(np.float64), barred)], K)
    gains = 1 / np.log2(np.arange(2, K + 2))
    best, found = np.cumsum(gains), []
    for user, row in enumerate(ranked.rows):
        true = test.indices[test.indptr[user] : test.indptr[user + 1]]
        if len(true):
            found.append(gains[np.isin(row, true)].sum() / best[min(K, len(true)) - 1])
    return float(np.mean(found))
