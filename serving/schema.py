"""The frames this package owns: what each source added to each blended score, and users to look at."""

import polars as pl

from profiles.schema import Frame, column

CONTRIBUTIONS = Frame(
    "CONTRIBUTIONS",
    {
        "user_id": column(pl.String, "for whom"),
        "item_id": column(pl.String, "what"),
        "source": column(pl.String, "the recommender inside the blend"),
        "source_rank": column(pl.UInt32, "where that recommender had it", optional=True),
        "source_score": column(pl.Float32, "what that recommender gave it", optional=True),
        "contribution": column(pl.Float32, "its part of the blended score; the parts sum to it"),
    },
    key=("user_id", "item_id", "source"),
)

EXAMPLES = Frame(
    "EXAMPLES",
    {
        "user_id": column(pl.String, "who"),
        "slice": column(pl.String, "cold, warm or heavy"),
        "kind": column(pl.String, "history (newest first), truth or list"),
        "source": column(pl.String, "whose list", optional=True),
        "rank": column(pl.UInt32, "place, from 1"),
        "item_id": column(pl.String, "what"),
        "right": column(pl.Boolean, "whether it is in the truth"),
    },
    key=("user_id", "kind", "source", "rank"),
)
