"""What answers a text, in a workspace: found among what items say or a file's rows, then read closer."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from nlp.cross_encoder import CrossEncoder
from nlp.embed import embed
from nlp.rerank import Trained, train
from nlp.retrieval import Index, RetrievalConfig
from nlp.text_files import table, texts_of
from profiles.schema import ContractError, microseconds
from profiles.snapshot import Snapshot
from recsys.dataset import Catalogue
from serving.finetune import Told, watched
from serving.progress import Progress
from serving.settings import SearchConfig, where
from serving.training import Checkpoints
from serving.workspace import ENCODERS, Workspace


@dataclass(frozen=True)
class Outcome:
    """The cross-encoder, and how many pairs it learned from and was validated by."""

    trained: Trained
    learned: int
    validated: int


def learn(workspace: Workspace, progress: Progress) -> Outcome:
    """Train a cross-encoder by `[pairs]` and `[rerank]`; what was interrupted goes on."""
    config = workspace.settings.rerank
    with workspace.alone():
        workspace.remember()
        told = Told.of(workspace, config)
        learned, held = len(told.train), len(told.validation)
        progress.say(f"rerank: {learned:,} pairs to learn from, {held:,} to validate by")

        def phase(title: str) -> AbstractContextManager[None]:
            return watched(f"rerank: {title}", progress)

        root = workspace.folder / ENCODERS
        with Checkpoints.of(workspace).kept():
            trained = train(told.train, told.validation, config, root, (), phase, told.chosen)
    return Outcome(trained, learned, held)


def search(
    workspace: Workspace,
    text: str,
    k: int,
    config: SearchConfig,
    source: tuple[Path, str] | None = None,
    user_id: str | None = None,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Return rank, score, text and what it is of: `item_id`, or the `row` of a file, from 0.

    `source` names the file and its column of texts; without it items are searched that were on offer at the
    newest snapshot's moment. What `user_id` wrote before joins the vector of the text. Raises ContractError
    where there is nothing to search for, in, or by.
    """
    if not text.strip():
        raise ContractError("the text to search for says nothing")
    progress = progress or Progress()
    reader = reader_of(workspace, config)
    named = _items(workspace.snapshot) if source is None else _rows(*source)
    texts, words = named["text"].to_list(), workspace.words
    encoder = words.encoder if config.by != "words" and words.config.enabled else None
    vectors = context = None
    if encoder is not None:
        with progress.task("search: text vectors", len(texts)) as advance:
            vectors = embed(texts, encoder, words.cache, advance)
    if user_id is not None:
        context = _written(workspace, user_id)
    retrieval = RetrievalConfig(**config.model_dump(include=set(RetrievalConfig.model_fields)))
    index = Index.of(texts, encoder, retrieval, vectors)
    found = index.search([text], k, config.by, reader, context)
    return found.select("rank", "score", named[found["text"]].to_struct("of")).unnest("of")


def reader_of(workspace: Workspace, config: SearchConfig) -> CrossEncoder | None:
    """Return the cross-encoder that the settings name, checked; what is wrong is told with its line."""
    model = config.reader.model
    if model is None:
        return None
    folder = workspace.located(model)
    named = model == workspace.settings.search.reader.model
    place = where(workspace.config, ("search", "reader", "model")) if named else ""
    if not folder.is_dir():
        raise ContractError(f"{place}there is no folder {folder}; `attune rerank` makes a cross-encoder")
    try:
        return CrossEncoder(folder, config.reader)
    except ContractError as error:
        raise ContractError(f"{place}{error}") from None


def _items(snapshot: Snapshot) -> pl.DataFrame:
    """Return item_id and text of the items on offer at the snapshot's moment."""
    events = snapshot.frame("events").select("item_id", "timestamp")
    catalogue = Catalogue.of(snapshot.frame("items"), events, snapshot.as_of)
    moment = np.array([microseconds(snapshot.as_of)])
    offered = catalogue.items.ids.filter(pl.Series(catalogue.candidates(moment)[0]))
    said = snapshot.frame("texts").filter(pl.col("owner") == "item", pl.col("id").is_in(offered.implode()))
    if said.is_empty():
        raise ContractError("the newest snapshot has no text of an item: map one, or name a file to search")
    return said.unique("id", keep="first", maintain_order=True).select("text", item_id="id")


def _rows(path: Path, column: str) -> pl.DataFrame:
    """Return row and text of a file, each text once."""
    texts = texts_of(table(path), column, path).alias("text").to_frame().with_row_index("row")
    texts = texts.filter(pl.col("text").str.strip_chars() != "")
    if texts.is_empty():
        raise ContractError(f"{path}: no row of {column!r} says anything")
    return texts.unique("text", keep="first", maintain_order=True)


def _written(workspace: Workspace, user_id: str) -> np.ndarray:
    """Return the vector of what a user wrote, (1, d); ContractError where that is nothing."""
    snapshot = workspace.snapshot
    written = snapshot.frame("texts").filter(pl.col("owner") == "user", pl.col("id") == user_id)
    vector = workspace.words.users([user_id], written.rename({"id": "user_id"}), snapshot.as_of)
    if vector is None or not np.isfinite(vector).all():
        raise ContractError(f"the newest snapshot knows of nothing that {user_id!r} wrote")
    return vector
