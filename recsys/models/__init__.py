"""Every recommender by its registry name. Adding one is a file here and a line in the dictionary."""

import json
from pathlib import Path

from profiles.schema import ContractError
from recsys.models.als import ALS
from recsys.models.bert4rec import BERT4Rec
from recsys.models.bpr import BPR
from recsys.models.caser import Caser
from recsys.models.content_text import ContentText
from recsys.models.ease import EASE
from recsys.models.gru4rec import GRU4Rec
from recsys.models.item_knn import ItemKNN
from recsys.models.lightgcn import LightGCN
from recsys.models.mult_vae import MultVAE
from recsys.models.popularity import Popularity
from recsys.models.sasrec import SASRec
from recsys.models.simplex import SimpleX
from recsys.recommender import Recommender

RECOMMENDERS: dict[str, type[Recommender]] = {
    "als": ALS,
    "bert4rec": BERT4Rec,
    "bpr": BPR,
    "caser": Caser,
    "content_text": ContentText,
    "ease": EASE,
    "gru4rec": GRU4Rec,
    "item_knn": ItemKNN,
    "lightgcn": LightGCN,
    "mult_vae": MultVAE,
    "popularity": Popularity,
    "sasrec": SASRec,
    "simplex": SimpleX,
}


def load(folder: Path) -> Recommender:
    """Read a saved recommender of any registered kind."""
    name = json.loads((folder / "recommender.json").read_text())["recommender"]
    if name not in RECOMMENDERS:
        raise ContractError(f"{folder}: no recommender is called {name!r}; known are {sorted(RECOMMENDERS)}")
    return RECOMMENDERS[name].load(folder)
