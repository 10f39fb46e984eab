"""How well settings of a recommender do on cuts of a log: what a search looks at.

The users of the first cut are asked in a growing sample, a ninth, a third, all, always the same ones first; a
report after each lets the search stop what is behind. All that there is is learned from even so: what is best
for a ninth of a log, such as a ridge penalty, is not what is best for the whole. Where gradients run it is
their epochs that take time, so each of these is a report, by what the fit itself holds out to stop by.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import ValidationError

from profiles.schema import ContractError
from recsys import watch
from recsys.dataset import Catalogue, Dataset, Queries
from recsys.evaluation import context
from recsys.metrics import Context, measure
from recsys.recommender import Recommender, RecommenderConfig, as_frame
from recsys.space import Settings, put
from recsys.split import Split
from recsys.training import TrainingConfig
from recsys.tuning import Outcome, Report

Accuracy = Literal[
    "recall", "recall_capped", "precision", "r_precision", "ndcg", "ndcg_graded", "hit_rate", "mrr", "map",
    "auc",
]  # fmt: skip
NINTHS = (1, 3, 9)  # of the users, asked in turn
FEWEST = 50  # users of the smallest sample
PATIENCE = 5  # epochs without a better one, of a fit that has no patience of its own


@dataclass(frozen=True)
class Sample:
    """Some users of a cut, and what they should be told."""

    queries: Queries
    truth: pl.DataFrame
    ninths: int  # of the cut's users, these and those of the samples before


@dataclass(frozen=True)
class Cut:
    """What is learned from, and who is asked."""

    train: Dataset
    context: Context
    samples: tuple[Sample, ...]

    @classmethod
    def of(
        cls,
        split: Split,
        train: Dataset,
        catalogue: Catalogue,
        ask: Callable[[Sequence[str]], Queries],
        ninths: Sequence[int],
        seed: int = 0,
    ) -> Self:
        """Draw the samples of a split; `ask` makes queries of users."""
        users = np.array(split.users)[np.random.default_rng(seed).permutation(len(split.users))]
        samples, start = [], 0
        for part in ninths:
            stop = len(users) * part // 9
            if stop - start < FEWEST and part < 9:
                continue
            whom = sorted(users[start:stop].tolist())
            truth = split.truth.filter(pl.col("user_id").is_in(whom))
            samples.append(Sample(ask(whom), truth, part))
            start = stop
        return cls(train, context(split, catalogue), tuple(samples))


@dataclass(frozen=True)
class Validation:
    """The objective of a search over one recommender's settings: a mean over all users asked."""

    kind: type[Recommender]
    fixed: Settings  # what is not searched
    cuts: Sequence[Cut]
    metric: Accuracy = "ndcg"
    k: int = 10

    def __call__(self, settings: Settings, report: Report) -> Outcome:
        """Fit, ask and measure; raises ContractError for settings that contradict each other."""
        try:
            config = self.kind.config_class.model_validate(put(self.fixed, settings))
        except ValidationError as error:
            raise ContractError(str(error.errors()[0]["msg"])) from None
        values: list[float] = []
        epochs: list[int] = []
        for number, cut in enumerate(self.cuts):
            fit = _Fit(config, report, reports=number == 0)
            model = fit.run(self.kind, cut.train)
            epochs += [fit.best_epoch] if fit.finds else []
            for sample in cut.samples:
                values += self._values(model, sample, cut)
                if not fit.trains:
                    report(9 * number + sample.ninths, float(np.mean(values)))
                report.check()
        found = {"epochs": max(1, round(float(np.mean(epochs))))} if epochs else {}
        return Outcome(float(np.mean(values)), found)

    def _values(self, model: Recommender, sample: Sample, cut: Cut) -> list[float]:
        catalogue = cut.train.catalogue
        ranked = model.rank(sample.queries, self.k, catalogue)
        lists = as_frame(ranked, sample.queries.ids, catalogue.items, "trial")
        found = measure(lists, sample.truth, (self.metric,), (self.k,), cut.context)
        return found["value"].to_list() if len(found) else [0.0] * len(sample.queries)


class _Fit:
    """One fit, watched: where it has epochs it stops by them, and knows the best."""

    def __init__(self, config: RecommenderConfig, report: Report, reports: bool) -> None:
        self.trains = isinstance(config, TrainingConfig)
        self.best_epoch = 0
        self._best = -np.inf
        self._report = report
        self._reports = reports
        own = config.model_dump()
        self._patient = self.trains and not own["patience"]
        self._config = config.model_copy(update={"patience": PATIENCE}) if self._patient else config

    @property
    def finds(self) -> bool:
        """Whether it was its task to find the number of epochs, and it did."""
        return self._patient and self.best_epoch > 0

    def run(self, kind: type[Recommender], train: Dataset) -> Recommender:
        with watch.trying(self._watch):
            return kind(self._config).fit(train)

    def _watch(self, progress: watch.Progress) -> None:
        self._report.check()
        if progress.validation is None:
            return
        if progress.validation > self._best:
            self._best, self.best_epoch = progress.validation, progress.epoch
        if self._reports:
            self._report(progress.epoch, self._best)
