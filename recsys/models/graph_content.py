"""Graph with content: LightGCN's item vectors, spread over users, categories, tags and texts alike."""

from typing import Annotated

import numpy as np
from pydantic import Field, PositiveFloat
from scipy.sparse import csr_matrix

from recsys import training
from recsys.dataset import Dataset, Queries
from recsys.held_out import HoldOutConfig, Learnable
from recsys.labels import incidence, keys, labels
from recsys.propagation import PropagationConfig, folded, learn
from recsys.recommender import NotApplicableError, Recommender, RecommenderConfig
from recsys.sampling import Sampler
from recsys.space import Tuned
from recsys.training import TrainingConfig
from recsys.warm import beginning


class GraphContentConfig(RecommenderConfig, PropagationConfig, HoldOutConfig, TrainingConfig):
    attributes: tuple[str, ...] = Field(
        ("categories", "tags"), description="attributes of items whose values are nodes of the graph"
    )
    label_weight: Annotated[PositiveFloat, Tuned(0.1, 10, log=True)] = Field(
        1.0, description="weight of the edge between an item and its label, against a user's of 1"
    )
    hidden: Annotated[float, Tuned(0, 0.5)] = Field(
        0.2, ge=0, lt=1, description="share of the items known by their content alone, anew each step"
    )


class GraphContent(Recommender):
    """score = e_u'e_i, both the mean of layers 0 to K of E_(k+1) = D^-1/2 A D^-1/2 E_k, as in LightGCN.

    A joins items to users and to their labels (as entities in KGAT; Wang et al., KDD 2019); layer 0 is 0
    for users, a vector for each label, and W t_i plus a vector of its own for an item, t_i the vector of
    its text. An item nobody touched has no vector of its own: its labels and text place it, in a list as
    in a history. Users are made of their items as in `lightgcn`, so unseen ones are answered alike. Order
    and times are not read. Items without interactions, labels and text, and queries without any other,
    are NaN. Memory: (users + items + labels) × factors × 32 + (pairs + labels of items) × 24 bytes.
    """

    config_class = GraphContentConfig
    cost = "gradient"
    needs = "labels"
    config: GraphContentConfig
    state = ("factors", "folding", "first", "content")
    products = "factors"
    factors: np.ndarray  # (items, d) float32: mean of the layers; NaN rows for items nothing is known of
    folding: np.ndarray  # (items, d) float32: what an item adds to a user of degree 1
    first: np.ndarray  # (items, d) float32: an item's own vector, where an update begins; NaN if untouched
    content: dict[str, np.ndarray]  # vectors of `labels`, their `keys`, and the `map` of texts, if there are

    def _fit(self, train: Dataset) -> None:
        self._train(train)

    def _update(self, train: Dataset, rows: np.ndarray) -> None:
        self._train(train, beginning(self.first, rows, train.matrix(self.config.repeats)))

    def _train(self, train: Dataset, start: np.ndarray | None = None) -> None:
        """Learn, from first item vectors, and the content learned before, if there are some."""
        from recsys.networks.graph_content import GraphContentNetwork

        c = self.config if start is None else training.of_update(self.config)
        found = labels(train.catalogue, c.attributes)
        described = incidence(found, len(train.items)) * c.label_weight
        texts = None if train.vectors is None else np.nan_to_num(train.vectors)
        spoken = (described.getnnz(axis=1) > 0) | (False if texts is None else texts.any(axis=1))
        if not spoken.any():
            raise NotApplicableError("no item has a category, tag or text: lightgcn is this without them")
        told = Learnable.of(train.matrix(c.repeats), c, spoken)
        data, described = told.data, described[told.known]
        texts = None if texts is None else texts[told.known]
        with training.reproducible(c.seed):
            network = GraphContentNetwork(
                data, described, texts, c.factors, c.hidden,
                layers=c.layers, loss=c.loss, negatives=c.negatives, hardest=c.hardest, l2=c.l2,
                sampler=Sampler.popularity(data.getnnz(axis=0) > 0),  # uniform over what was touched
            )  # fmt: skip
        if start is not None:
            network.begin(start[told.known], self._labels(keys(found), described), self.content.get("map"))
        parts = [part for m in (data, described) for part in (m.indptr, m.indices, m.data)]
        key = training.fingerprint(*parts, *([] if texts is None else [texts]))
        self.factors, self.folding, _ = learn(network, told, key, c)
        own = network.items.detach().numpy()
        self.first = told.everywhere(np.where(network.touched.numpy() > 0, own, np.nan))
        self.content = {"keys": keys(found), "labels": network.labels.detach().numpy()}
        if network.map is not None:
            self.content["map"] = network.map.weight.detach().numpy()

    def _labels(self, keys: np.ndarray, described: csr_matrix) -> np.ndarray | None:
        """Return where the vectors of labels begin, (labels, d), as items do among those of one user."""
        place = {key: row for row, key in enumerate(self.content["keys"].tolist())}
        rows = np.array([place.get(key, -1) for key in keys.tolist()], np.int64)
        return beginning(self.content["labels"], rows, described) if (rows >= 0).any() else None

    def _users(self, queries: Queries) -> np.ndarray:
        return folded(queries.matrix(self.config.repeats), self.folding, ~np.isnan(self.factors[:, 0]))
