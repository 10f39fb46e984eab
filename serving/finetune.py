"""Fine-tuning in a workspace: pairs of its newest snapshot or of a file make a folder in `encoders/`."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from nlp.finetune import FinetuneConfig, Tuned, finetune
from nlp.pairs import divided, from_file, of_snapshot
from nlp.pretrain import pretrain
from nlp.rerank import RerankConfig
from nlp.text_files import table, texts_of
from profiles.schema import ContractError
from recsys import watch
from serving.progress import Progress
from serving.training import Checkpoints, teller
from serving.workspace import ENCODERS, Workspace


@dataclass(frozen=True)
class Outcome:
    """The tuned encoder, and how many pairs it learned from and was validated by."""

    tuned: Tuned
    learned: int
    validated: int


@dataclass(frozen=True)
class Told:
    """What a workspace knows of texts that belong together, by `[pairs]`."""

    train: pl.DataFrame  # PAIRS
    validation: pl.DataFrame  # those of other users, and later
    chosen: pl.DataFrame | None  # user_id and text of everything they chose
    hard: pl.DataFrame | None  # user_id and text of what they are recommended

    @classmethod
    def of(cls, workspace: Workspace, config: FinetuneConfig | RerankConfig) -> "Told":
        """Read the pairs and cut off those to validate by."""
        pairs, chosen = _pairs(workspace)
        train, validation = divided(pairs, config.validation_share, config.seed)
        return cls(train, validation, chosen, _hard(workspace))


def run(workspace: Workspace, progress: Progress) -> Outcome:
    """Fine-tune by `[pairs]` and `[finetune]`; what was interrupted goes on from its last checkpoint."""
    settings = workspace.settings
    with workspace.alone():
        workspace.remember()
        told = Told.of(workspace, settings.finetune)
        train, validation = told.train, told.validation
        progress.say(f"finetune: {len(train):,} pairs to learn from, {len(validation):,} to validate by")

        def phase(title: str) -> AbstractContextManager[None]:
            return watched(f"finetune: {title}", progress)

        root = workspace.folder / ENCODERS
        with Checkpoints.of(workspace).kept():
            tuned = finetune(train, validation, settings.finetune, root, told.chosen, told.hard, phase)
    return Outcome(tuned, len(train), len(validation))


def begin(workspace: Workspace, file: Path | None, column: str, progress: Progress) -> Path:
    """Make an encoder from nothing by `[pretrain]`, of a file's column or the newest snapshot's texts."""
    with workspace.alone():
        workspace.remember()
        texts = corpus(workspace, file, column)
        progress.say(f"pretrain: {len(texts):,} texts")
        with Checkpoints.of(workspace).kept():
            return pretrain(
                texts,
                workspace.settings.pretrain,
                workspace.folder / ENCODERS,
                lambda title: watched(f"pretrain: {title}", progress),
            )


def corpus(workspace: Workspace, file: Path | None, column: str) -> list[str]:
    """Return the texts of a file's column, or of the newest snapshot."""
    if file is None:
        return workspace.snapshot.frame("texts")["text"].to_list()
    return texts_of(table(file), column, file).drop_nulls().to_list()


def _pairs(workspace: Workspace) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    config = workspace.settings.pairs
    if config.file is not None:
        return from_file(config.file, workspace.root), None
    return of_snapshot(workspace.snapshot, config.within(), config.each, config.until)


def _hard(workspace: Workspace) -> pl.DataFrame | None:
    """Return what users are recommended, as user_id and text of the item."""
    name = workspace.settings.pairs.hard
    if name is None:
        return None
    path = workspace.root / name
    if not path.is_file():
        raise ContractError(f"pairs: hard = {name!r}: there is no file {path}")
    try:
        lists = pl.read_parquet(path, columns=["user_id", "item_id"])
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ContractError(f"{path}: no Parquet of user_id and item_id: {error}") from None
    texts = workspace.snapshot.frame("texts").filter(pl.col("owner") == "item")
    said = texts.unique("id", keep="first", maintain_order=True).select("text", item_id="id")
    return lists.join(said, on="item_id", maintain_order="left").select("user_id", "text")


@contextmanager
def watched(title: str, progress: Progress) -> Iterator[None]:
    """Show how every fit begun inside goes on."""
    with progress.task(title), watch.telling(teller(title, progress, every_epoch=True)):
        yield
