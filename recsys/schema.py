"""The frames this package owns: rankings, the common tongue, and what is measured of them."""

import polars as pl

from profiles.schema import Frame, column

RECOMMENDATIONS = Frame(
    "RECOMMENDATIONS",
    {
        "user_id": column(pl.String, "for whom"),
        "item_id": column(pl.String, "what"),
        "rank": column(pl.UInt32, "1..n without gaps"),
        "score": column(pl.Float32, "comparable within one user and one source"),
        "source": column(pl.String, "a recommender, or blend"),
    },
    key=("user_id", "source", "rank"),
)

METRICS = Frame(
    "METRICS",
    {
        "source": column(pl.String, "whose list"),
        "metric": column(pl.String, "recall, ndcg, …"),
        "k": column(pl.Int64, "list length"),
        "user_id": column(pl.String, "null for a metric of the whole catalogue", optional=True),
        "value": column(pl.Float64, "see the metric's range"),
    },
    key=("source", "metric", "k", "user_id"),
)
