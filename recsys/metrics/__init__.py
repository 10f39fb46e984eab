"""What a ranking is worth: pure functions from ranking frames to METRICS frames.

A `Metric` takes (recommendations, truth, k, context) and returns one row per source and user with
truth. Users without truth are left out; users with truth but without a list count as 0. A metric of
the whole catalogue has one row per source and a null user. `recommendations` may hold any number of
sources; `truth` is unique (user_id, item_id) pairs and may give each a `weight`.

Lists are taken as they stand: full rankings over the catalogue, ties already broken. Frames are checked,
coded and searched for hits once, in `Rankings`; a metric is a formula over that.
"""

from collections.abc import Sequence

import polars as pl

from profiles.schema import ContractError
from recsys.metrics import accuracy, catalogue, lists
from recsys.metrics.checks import refuse_depths
from recsys.metrics.context import Context
from recsys.metrics.rankings import Metric, Rankings, rows

__all__ = ["ACCURACY", "METRICS_BY_NAME", "Context", "Metric", "Rankings", "measure"]

ACCURACY: tuple[Metric, ...] = (  # the more, the better
    accuracy.recall,
    accuracy.recall_capped,
    accuracy.precision,
    accuracy.r_precision,
    accuracy.ndcg,
    accuracy.ndcg_graded,
    accuracy.hit_rate,
    accuracy.mrr,
    accuracy.average_precision,
    accuracy.auc,
)
METRICS_BY_NAME: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        *ACCURACY,
        lists.completeness,
        lists.novelty,
        lists.serendipity,
        lists.diversity,
        lists.calibration,
        lists.arp,
        lists.aclt,
        lists.tail_share,
        catalogue.coverage,
        catalogue.gini,
        catalogue.entropy,
        catalogue.exposure_gap,
    )
}


def measure(
    recommendations: pl.DataFrame,
    truth: pl.DataFrame,
    names: Sequence[str],
    ks: Sequence[int],
    context: Context,
) -> pl.DataFrame:
    """Return every named metric at every k as one METRICS frame, by source, metric, k and user.

    Raises ContractError for an unknown name and for what `Rankings.of` refuses.
    """
    unknown = [name for name in names if name not in METRICS_BY_NAME]
    if unknown:
        raise ContractError(f"metric {unknown[0]!r} is not one of {', '.join(METRICS_BY_NAME)}")
    refuse_depths(ks)
    wanted = [(METRICS_BY_NAME[name], k) for name in sorted(set(names)) for k in sorted(set(ks))]
    return rows(Rankings.of(recommendations, truth, context), wanted)
