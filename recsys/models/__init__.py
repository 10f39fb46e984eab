"""Every recommender by its registry name. Adding one is a file here and a line in the dictionary."""

import json
from pathlib import Path

from profiles.schema import ContractError
from recsys.models.als import ALS
from recsys.models.association_rules import AssociationRules
from recsys.models.bert4rec import BERT4Rec
from recsys.models.bpr import BPR
from recsys.models.caser import Caser
from recsys.models.category_popularity import CategoryPopularity
from recsys.models.content_attributes import ContentAttributes
from recsys.models.content_ease import ContentEASE
from recsys.models.content_tags import ContentTags
from recsys.models.content_text import ContentText
from recsys.models.content_vectors import ContentVectors
from recsys.models.covisitation import Covisitation
from recsys.models.ease import EASE
from recsys.models.graph_content import GraphContent
from recsys.models.graph_filter import GraphFilter
from recsys.models.gru4rec import GRU4Rec
from recsys.models.item_knn import ItemKNN
from recsys.models.lightgcn import LightGCN
from recsys.models.mult_vae import MultVAE
from recsys.models.popularity import Popularity
from recsys.models.random import Random
from recsys.models.rp3beta import RP3Beta
from recsys.models.sasrec import SASRec
from recsys.models.sequential_ease import SequentialEASE
from recsys.models.simplex import SimpleX
from recsys.models.slim import SLIM
from recsys.models.user_knn import UserKNN
from recsys.recommender import Recommender

RECOMMENDERS: dict[str, type[Recommender]] = {
    "als": ALS,
    "association_rules": AssociationRules,
    "bert4rec": BERT4Rec,
    "bpr": BPR,
    "caser": Caser,
    "category_popularity": CategoryPopularity,
    "content_attributes": ContentAttributes,
    "content_ease": ContentEASE,
    "content_tags": ContentTags,
    "content_text": ContentText,
    "content_vectors": ContentVectors,
    "covisitation": Covisitation,
    "ease": EASE,
    "graph_content": GraphContent,
    "graph_filter": GraphFilter,
    "gru4rec": GRU4Rec,
    "item_knn": ItemKNN,
    "lightgcn": LightGCN,
    "mult_vae": MultVAE,
    "popularity": Popularity,
    "random": Random,
    "rp3beta": RP3Beta,
    "sasrec": SASRec,
    "sequential_ease": SequentialEASE,
    "simplex": SimpleX,
    "slim": SLIM,
    "user_knn": UserKNN,
}


def load(folder: Path) -> Recommender:
    """Read a saved recommender of any registered kind."""
    name = json.loads((folder / "recommender.json").read_text())["recommender"]
    if name not in RECOMMENDERS:
        raise ContractError(f"{folder}: no recommender is called {name!r}; known are {sorted(RECOMMENDERS)}")
    return RECOMMENDERS[name].load(folder)
