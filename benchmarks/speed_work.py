"""The work of the speed benchmark and of the peers that live in our own environment."""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from benchmarks import leave_last_out, peer_environment
from benchmarks.ml1m_last import FILE, NO_ITEMS
from benchmarks.process import Figures
from benchmarks.speed_world import world
from profiles import threads
from profiles.threads import single_blas
from recsys import training, watch
from recsys.dataset import Catalogue, Dataset
from recsys.evaluation import measure_split, queries
from recsys.models import RECOMMENDERS
from recsys.products import Table
from recsys.ranking import Barred, rounded
from recsys.split import Split

FACTORS, K = 128, 20
LAYERS, PAIRS = 3, 2048  # of LightGCN, and RecBole's batch size
LENGTH, ROWS = 200, 128  # of SASRec: newest items that are read, and users a step
AT_ONCE = 512  # users of a bare product, by which it is quickest
CHECKED = 64  # users whose lists are held against a full sort of float32 scores


def least(work: Callable[[], Any], repeats: int) -> float:
    """Return the least seconds of some runs, after one that loads and compiles what it needs."""
    work()
    took = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return min(took)


def clocks() -> tuple[float, float]:
    """Return the time, and what all processors spent on this process: a busy machine counts in one only."""
    return time.perf_counter(), time.process_time()


# LightGCN


def _lightgcn(source: str) -> tuple[Any, csr_matrix]:
    from recsys.networks.lightgcn import LightGCNNetwork
    from recsys.sampling import sampler

    matrix = world(source).train.matrix("binary")
    drawn = sampler("uniform", np.ones(matrix.shape[1]))
    with training.reproducible(0):
        network = LightGCNNetwork(matrix, 64, LAYERS, True, "bpr", 1, 0.0, drawn)
    return network, matrix


def _drawn(matrix: csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return users, items they did, and items."""
    random = np.random.default_rng(0)
    place = random.integers(0, matrix.nnz, PAIRS)
    users = np.searchsorted(matrix.indptr, place, side="right") - 1
    return users, matrix.indices[place].astype(np.int64), random.integers(0, matrix.shape[1], PAIRS)


def lightgcn_step(source: str, steps: int) -> Figures:
    """Time one step: propagation, BPR loss, gradient, optimiser."""
    import torch

    network, matrix = _lightgcn(source)
    users, items, _ = _drawn(matrix)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    random = np.random.default_rng(0)

    def step() -> None:
        optimizer.zero_grad()
        network.loss(users, items, random).backward()
        optimizer.step()

    return {"seconds": least(step, steps), "pairs": PAIRS}


def pyg_lightgcn_step(source: str, steps: int) -> Figures:
    """Time the same step of torch-geometric, and say how far its gradient is from ours, relatively."""
    import torch
    from torch_geometric.nn.models import LightGCN

    network, matrix = _lightgcn(source)
    users, items = matrix.shape
    owner = np.repeat(np.arange(users), np.diff(matrix.indptr))
    there = np.stack([owner, matrix.indices + users])
    edges = torch.from_numpy(np.hstack([there, there[::-1]]).astype(np.int64))
    asked, right, wrong = _drawn(matrix)
    pairs = np.stack([np.tile(asked, 2), np.concatenate([right, wrong]) + users])
    labels = torch.from_numpy(pairs)
    model = LightGCN(users + items, 64, LAYERS)
    with torch.no_grad():
        model.embedding.weight.copy_(torch.cat(network.first()))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def gradient() -> None:
        optimizer.zero_grad()
        good, bad = model(edges, labels).chunk(2)
        model.recommendation_loss(good, bad, labels.unique(), lambda_reg=0.0).backward()

    def step() -> None:
        gradient()
        optimizer.step()

    gradient()
    network.positives.negatives = lambda *_: wrong[:, None]
    network.loss(asked, right, np.random.default_rng(0)).backward()
    own = torch.cat([network.users.grad, network.items.grad])
    apart = float((model.embedding.weight.grad - own).norm() / own.norm())
    return {"seconds": least(step, steps), "pairs": PAIRS, "gradient_apart": apart}


def lightgcn_epoch(source: str, steps: int) -> Figures:
    """Time steps of the fit itself at RecBole's batch size, and scale them to an epoch."""
    network, matrix = _lightgcn(source)
    network.l2 = 1e-4
    owner = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    epoch = training.shuffled(matrix.nnz, PAIRS)
    total = -(-matrix.nnz // PAIRS)
    taken = min(steps, total) if steps else total
    config = training.TrainingConfig(batch_size=PAIRS, epochs=2)
    ended: list[tuple[float, float]] = []
    task = training.Task(
        network,
        lambda random: epoch(random)[:taken],
        lambda rows, random: network.loss(owner[rows], matrix.indices[rows], random),
        "",
    )
    with watch.watching(lambda at: ended.append(clocks()) if at.step == at.steps else None):
        training.train(task, config)
    seconds, cpu = (np.diff(ended[-2:], axis=0)[0] * total / taken).tolist()
    return {"seconds": seconds, "cpu_s": cpu, "steps": total, "timed_steps": taken}


def recbole_lightgcn(source: str, peers: str, steps: int) -> Figures:
    """Have RecBole train on the same pairs."""
    log = world(source).log.select(
        pl.col("user_id").alias("user_id:token"), pl.col("item_id").alias("item_id:token")
    )
    with TemporaryDirectory(prefix="recbole-") as folder:
        (Path(folder) / "speed").mkdir()
        for name, part in (("train", log), ("valid", log[:10]), ("test", log[:10])):
            part.write_csv(Path(folder) / "speed" / f"speed.{name}.inter", separator="\t")
        return peer_environment.asked(
            Path(peers), "recbole", "lightgcn",
            folder=folder, name="speed", steps=steps, batch_size=PAIRS, layers=LAYERS,
        )  # fmt: skip


# SASRec


def _movies(data: str, quick: bool) -> tuple[Split, Catalogue]:
    log = leave_last_out.interactions(Path(data) / FILE, quick)
    catalogue = leave_last_out.whole_catalogue(log, NO_ITEMS)
    return leave_last_out.last(log, catalogue), catalogue


def sasrec_epoch(data: str, quick: bool, epochs: int) -> Figures:
    """Time an epoch; `ndcg@10` of everybody's last item after `epochs`."""
    test, catalogue = _movies(data, quick)
    settings: dict[str, Any] = {"factors": 64, "blocks": 2, "max_length": LENGTH, "batch_size": ROWS}
    ended = [clocks()]

    def told(at: watch.Progress) -> None:
        if at.step == at.steps:
            ended.append(clocks())

    kind = RECOMMENDERS["sasrec"]
    train = Dataset.of(test.train, catalogue, test.at, timeless=True)
    with watch.watching(told):
        model = kind(kind.config_class(**settings, epochs=epochs)).fit(train)
    apart = np.diff(ended, axis=0)[1 if epochs > 1 else 0 :]
    asked = leave_last_out.CONFIG
    listed = model.recommend(queries(test, catalogue, asked), 10, catalogue, "row")
    found = measure_split(listed, test, catalogue, asked).filter(metric="ndcg", k=10)["value"].mean()
    seconds, cpu = np.median(apart, axis=0).tolist()
    return {"seconds": seconds, "cpu_s": cpu, "ndcg@10": found}


def rectools_sasrec(data: str, quick: bool, epochs: int, peers: str) -> Figures:
    """Have RecTools train on the same log and list the same users' items."""
    test, _ = _movies(data, quick)
    with TemporaryDirectory(prefix="rectools-") as folder:
        log, lists = Path(folder) / "log.csv", Path(folder) / "lists.csv"
        seconds = (pl.col("timestamp").to_physical() // 1_000_000).alias("time")
        test.train.select("user_id", "item_id", seconds).write_csv(log)
        found = peer_environment.asked(
            Path(peers), "rectools", "sasrec",
            log=log, lists=lists, epochs=epochs, batch_size=ROWS, max_length=LENGTH, k=10,
        )  # fmt: skip
        listed = pl.read_csv(lists, schema_overrides={"user_id": pl.String, "item_id": pl.String})
    truth = test.truth.select("user_id", "item_id")
    ranks = truth.join(listed, on=["user_id", "item_id"], how="left")["rank"]
    gains = (1 / (ranks + 1.0).log(2)).fill_null(0.0)
    return found | {"ndcg@10": float(np.mean(gains.to_numpy()))}


def recbole_sasrec(data: str, quick: bool, peers: str, steps: int) -> Figures:
    """Have RecBole train on the same log: each prefix of a history is a row of its own there."""
    log = leave_last_out.interactions(Path(data) / FILE, quick).select(
        pl.col("user_id").alias("user_id:token"),
        pl.col("item_id").alias("item_id:token"),
        (pl.col("timestamp").to_physical() // 1_000_000).cast(pl.Float64).alias("timestamp:float"),
    )
    with TemporaryDirectory(prefix="recbole-") as folder:
        (Path(folder) / "speed").mkdir()
        log.write_csv(Path(folder) / "speed" / "speed.inter", separator="\t")
        return peer_environment.asked(
            Path(peers), "recbole", "sasrec",
            folder=folder, name="speed", steps=steps, batch_size=ROWS, max_length=LENGTH,
        )  # fmt: skip


# Item-kNN and EASE


def item_knn_fit(source: str, repeats: int) -> Figures:
    """Time the fit: cosines, 100 neighbours, no shrinkage."""
    train = world(source).train
    kind = RECOMMENDERS["item_knn"]
    model = kind(kind.config_class(neighbours=100, shrinkage=0.0))  # type: ignore[call-arg]
    return {"seconds": least(lambda: model.fit(train), repeats)}


def implicit_item_knn(source: str, repeats: int) -> Figures:
    """Time implicit's cosine fit of as many others; `equal_lists` is the share of items listed as by us.

    implicit counts an item among its own neighbours, so it is asked for one more, and ties at the end
    of a list may fall either way: values are compared.
    """
    from implicit.nearest_neighbours import CosineRecommender

    train = world(source).train
    matrix = train.matrix("binary").astype(np.float64)
    model = CosineRecommender(K=101, num_threads=threads.available())
    seconds = least(lambda: model.fit(matrix, show_progress=False), repeats)
    kind = RECOMMENDERS["item_knn"]
    ours = kind(kind.config_class(neighbours=100, shrinkage=0.0)).fit(train)  # type: ignore[call-arg]
    theirs, own = model.similarity.tocsr(), ours.similarities  # type: ignore[attr-defined]
    theirs.setdiag(0)
    theirs.eliminate_zeros()
    equal = 0
    for row in range(own.shape[0]):
        left, right = (np.sort(m.data[m.indptr[row] : m.indptr[row + 1]])[::-1][:100] for m in (own, theirs))
        equal += len(left) == len(right) and np.allclose(left, right, rtol=1e-5)
    return {"seconds": seconds, "equal_lists": equal / own.shape[0]}


def ease_fit(data: str, quick: bool, repeats: int) -> Figures:
    """Time the dense fit."""
    test, catalogue = _movies(data, quick)
    train = Dataset.of(test.train, catalogue, test.at, timeless=True)
    return {"seconds": least(lambda: RECOMMENDERS["ease"]().fit(train), repeats), "items": len(train.items)}


def lapack_inverse(data: str, quick: bool, repeats: int) -> Figures:
    """Time LAPACK's inverse of the same matrix by Cholesky, in place, of float64, and nothing else."""
    from scipy.linalg.lapack import dpotrf, dpotri

    test, catalogue = _movies(data, quick)
    matrix = catalogue.queries(test.train["user_id"].unique().to_list(), test.train, test.at).matrix("binary")
    gram = np.asfortranarray((matrix.T @ matrix).toarray(), np.float64)
    gram[np.diag_indices_from(gram)] += 500.0
    room = np.empty_like(gram, order="F")
    took = []
    for _ in range(repeats + 1):
        room[:] = gram
        begun = time.perf_counter()
        factor, _ = dpotrf(room, lower=1, overwrite_a=1)
        dpotri(factor, lower=1, overwrite_c=1)
        took.append(time.perf_counter() - begun)
    return {"seconds": min(took[1:]), "items": len(gram)}


# Top-k


def _sides(source: str) -> tuple[np.ndarray, np.ndarray, csr_matrix]:
    """Return vectors of users and items as ALS leaves them, and what was seen."""
    from implicit.cpu.als import AlternatingLeastSquares

    matrix = world(source).train.matrix("binary")
    with single_blas():
        model = AlternatingLeastSquares(factors=FACTORS, iterations=3, random_state=0)
        model.fit(matrix, show_progress=False)
    return np.asarray(model.user_factors), np.asarray(model.item_factors), matrix


def topk(source: str, repeats: int) -> Figures:
    """Time the lists of all users; `equal_lists` holds some against a full sort of float32 scores."""
    users, items, seen = _sides(source)
    table, wide = Table(items), users.astype(np.float64)
    none = np.zeros(len(items), bool)
    barred = Barred(none, seen.indptr.astype(np.int64), seen.indices)
    block = table.block(len(users))
    blocks = [
        (wide[start : start + block], barred.part(start, min(start + block, len(wide))))
        for start in range(0, len(wide), block)
    ]
    found = list(table.best(blocks, K))
    rows = np.concatenate([ranked.rows for ranked in found])
    equal = 0
    for user in range(min(CHECKED, len(users))):
        scores = rounded((items.astype(np.float64) @ wide[user]).astype(np.float32))
        scores[seen.indices[seen.indptr[user] : seen.indptr[user + 1]]] = -np.inf
        equal += np.array_equal(np.lexsort((np.arange(len(items)), -scores))[:K], rows[user])
    seconds = least(lambda: list(table.best(blocks, K)), repeats)
    return {
        "seconds": seconds, "users": len(users), "items": len(items),
        "equal_lists": equal / min(CHECKED, len(users)),
    }  # fmt: skip


def implicit_recommend(source: str, repeats: int) -> Figures:
    """Time implicit's own lists."""
    from implicit.cpu.matrix_factorization_base import MatrixFactorizationBase

    class Given(MatrixFactorizationBase):  # type: ignore[misc]
        def fit(self, *_: Any) -> None: ...

        def save(self, *_: Any) -> None: ...

        @classmethod
        def load(cls, *_: Any) -> None: ...

    users, items, seen = _sides(source)
    model = Given(threads.available())
    model.user_factors, model.item_factors = users, items
    ids = np.arange(len(users))

    def work() -> None:
        with single_blas():
            model.recommend(ids, seen, N=K, filter_already_liked_items=True)

    return {"seconds": least(work, repeats), "users": len(users), "items": len(items)}


def bare_product(source: str, repeats: int) -> Figures:
    """Time nothing but the product of all users and items in bfloat16, block by block into one place."""
    import torch

    users, items, _ = _sides(source)
    left, right = (torch.from_numpy(side).bfloat16() for side in (users, items))
    room = torch.empty((AT_ONCE, len(right)), dtype=torch.bfloat16)

    def work() -> None:
        for start in range(0, len(left), AT_ONCE):
            part = left[start : start + AT_ONCE]
            torch.mm(part, right.T, out=room[: len(part)])

    return {"seconds": least(work, repeats), "users": len(users), "items": len(items)}


def faiss_flat(source: str, peers: str, repeats: int) -> Figures:
    """Have faiss search its flat index for as many items; it masks nothing, which is less work."""
    users, items, _ = _sides(source)
    with TemporaryDirectory(prefix="faiss-") as folder:
        files = {"users": users, "items": items}
        for name, side in files.items():
            np.save(Path(folder) / f"{name}.npy", side)
        return peer_environment.asked(
            Path(peers), "faiss", "topk", k=K, repeats=repeats,
            **{name: Path(folder) / f"{name}.npy" for name in files},
        )  # fmt: skip
