"""The frame this package owns: what each source added to each blended score."""

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
