"""Graph with content: LightGCN's item vectors, spread over users, categories, tags and texts alike."""

import numpy as np
from pydantic import Field, PositiveFloat

from recsys import training
from recsys.dataset import Dataset, Queries
from recsys.held_out import HoldOutConfig, Learnable
from recsys.labels import incidence, labels
from recsys.propagation import PropagationConfig, folded, learn
from recsys.recommender import NotApplicableError, Recommender, RecommenderConfig
from recsys.sampling import Sampler
from recsys.training import TrainingConfig


class GraphContentConfig(RecommenderConfig, PropagationConfig, HoldOutConfig, TrainingConfig):
    attributes: tuple[str, ...] = Field(
        ("categories", "tags"), description="attributes of items whose values are nodes of the graph"
    )
    label_weight: PositiveFloat = Field(
        1.0, description="weight of the edge between an item and its label, against a user's of 1"
    )
    hidden: float = Field(
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
    state = ("factors", "folding")
    products = "factors"
    factors: np.ndarray  # (items, d) float32: mean of the layers; NaN rows for items nothing is known of
    folding: np.ndarray  # (items, d) float32: what an item adds to a user of degree 1

    def _fit(self, train: Dataset) -> None:
        from recsys.networks.graph_content import GraphContentNetwork

        c = self.config
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
                layers=c.layers, loss=c.loss, negatives=c.negatives, l2=c.l2,
                sampler=Sampler.popularity(data.getnnz(axis=0) > 0),  # uniform over what was touched
            )  # fmt: skip
        parts = [part for m in (data, described) for part in (m.indptr, m.indices, m.data)]
        key = training.fingerprint(*parts, *([] if texts is None else [texts]))
        self.factors, self.folding = learn(network, told, key, c)

    def _users(self, queries: Queries) -> np.ndarray:
        return folded(queries.matrix(self.config.repeats), self.folding, ~np.isnan(self.factors[:, 0]))
