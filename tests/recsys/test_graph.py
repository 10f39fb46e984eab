"""The mean of a graph's layers and its gradient against dense matrices, and the same bits on many threads."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from recsys.networks.graph import Graph, Mean, MeanOf
from recsys.networks.layers import taken

USERS, ITEMS, WIDTH = 7, 5, 3


@pytest.fixture
def matrix() -> csr_matrix:
    """Nobody did item 3, and user 2 did nothing."""
    random = np.random.default_rng(5)
    cells = random.uniform(0.5, 2, (USERS, ITEMS)) * (random.random((USERS, ITEMS)) < 0.5)
    cells[2], cells[:, 3] = 0, 0
    return csr_matrix(cells.astype(np.float32))


def dense(matrix: csr_matrix) -> torch.Tensor:
    """Return D^-1/2 A D^-1/2, float64, by loops."""
    cells, found = matrix.toarray().astype(np.float64), np.zeros((USERS + ITEMS, USERS + ITEMS))
    for user in range(USERS):
        for item in range(ITEMS):
            if value := cells[user, item]:
                value /= np.sqrt(cells[user].sum() * cells[:, item].sum())
                found[user, USERS + item] = found[USERS + item, user] = value
    return torch.from_numpy(found)


@pytest.mark.parametrize("trained", [True, False], ids=["users", "no users"])
@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("rows", [None, [0, 2, 5, 8, 10, 11], [1, 3], [7, 10]], ids=str)
def test_the_mean_and_its_gradient_are_autograds(rows, layers, trained, matrix):
    random = torch.Generator().manual_seed(0)
    users, items = (torch.randn(n, WIDTH, generator=random) for n in (USERS, ITEMS))
    learning = [users.requires_grad_(), items.requires_grad_()] if trained else [items.requires_grad_()]
    x = torch.cat([users if trained else torch.zeros_like(users), items]).double()
    every, a = [x], dense(matrix)
    for _ in range(layers):
        every.append(a @ every[-1])
    expected = torch.stack(every).mean(0)
    first = (Graph(matrix), users if trained else None, items, layers)
    if rows is None:
        found = Mean.apply(*first)
    else:
        found = MeanOf.apply(first[0], np.array(rows), *first[1:])
        expected = expected[rows]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    pull = torch.randn(expected.shape, generator=random)
    ours = torch.autograd.grad((found.square() * pull).sum(), learning)
    theirs = torch.autograd.grad((expected.square() * pull).sum(), learning)
    for own, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, their, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(40,), (6, 5), (0,)])
def test_rows_taken_and_their_gradient_are_those_of_indexing(shape):
    table = torch.randn(9, 4, requires_grad=True)
    index = torch.randint(0, 9, shape)  # some many times
    pull = torch.randn(*shape, 4)
    assert torch.equal(taken(table, index), table[index])
    found = [
        torch.autograd.grad((rows * pull).sum(), table)[0] for rows in (taken(table, index), table[index])
    ]
    assert torch.equal(*found)


# In a process of its own: MKL keeps the number of threads that torch was last given.
PROGRAM = """
import json
import numpy as np
import torch
from scipy.sparse import random_array
from recsys import training
from recsys.networks.graph import Graph
from recsys.networks.lightgcn import LightGCNNetwork
from recsys.sampling import Sampler

matrix = random_array((900, 700), density=0.013, format="csr", dtype=np.float32, rng=np.random.default_rng(0))
owner = np.repeat(np.arange(900), np.diff(matrix.indptr))


def fit(train_users):
    with training.reproducible(0):
        network = LightGCNNetwork(matrix, 64, 3, train_users, "bpr", 1, 1e-2, Sampler.uniform(700))
    task = training.Task(
        network,
        training.shuffled(matrix.nnz, 2048),
        lambda rows, random: network.loss(owner[rows], matrix.indices[rows], random),
        "",
    )
    training.train(task, training.TrainingConfig(epochs=1, learning_rate=0.05))
    return training.fingerprint(*(value.numpy() for value in network.state_dict().values()))


vectors, products = torch.randn(700, 64), []
for threads in (1, 3, 2):
    torch.set_num_threads(threads)
    products.append(training.fingerprint(Graph(matrix).product(0, vectors).numpy()))
assert torch.get_num_threads() == 2
print(json.dumps({"products": products, "fits": [[fit(users) for _ in range(2)] for users in (True, False)]}))
"""


def test_bits_are_the_same_on_any_number_of_threads_and_in_any_fit():
    patient = os.environ | {"OMP_WAIT_POLICY": "passive"}  # threads that wait leave the processor to others
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120, env=patient
    )
    told = json.loads(done.stdout)
    assert len(set(told["products"])) == 1
    assert all(first == second for first, second in told["fits"])
    assert told["fits"][0] != told["fits"][1]
