"""For whom, and of what, a source is right: labels for users and items, and figures by label.

Labels are frames of an id and a `slice`. By user, what was measured is read again; by item, the truth is
cut to the slice and measured anew, so that a recall of new items asks for new items only.
"""

from collections.abc import Sequence

import polars as pl

from profiles.schema import ContractError
from recsys.metrics import Context, measure
from recsys.significance import summarise

COLD, HEAVY = 5, 50  # interactions below which a user is cold, from which heavy


def by_activity(train: pl.DataFrame, users: pl.Series, cold: int = COLD, heavy: int = HEAVY) -> pl.DataFrame:
    """Label users cold (fewer than `cold` interactions in train), warm or heavy (`heavy` or more)."""
    if not 0 < cold <= heavy:
        raise ContractError(f"cold ({cold}) must be above 0 and not above heavy ({heavy})")
    done = train.filter(pl.col("weight") > 0).group_by("user_id").len()
    count = pl.col("len").fill_null(0)
    label = (
        pl.when(count < cold).then(pl.lit("cold"))
        .when(count < heavy).then(pl.lit("warm"))
        .otherwise(pl.lit("heavy"))
    )  # fmt: skip
    asked = users.unique(maintain_order=True).rename("user_id").to_frame()
    return asked.join(done, on="user_id", how="left", maintain_order="left").select("user_id", slice=label)


def by_column(profiles: pl.DataFrame, column: str, parts: int = 4) -> pl.DataFrame:
    """Label users by a profile column: numbers by quantile ("1/4", the lowest, to "4/4"), all else by value.

    Equal numbers share a part; null is "unknown". Raises ContractError for a column of lists, or none.
    """
    if column not in profiles.columns:
        raise ContractError(f"profiles have no column {column!r}; there are {', '.join(profiles.columns)}")
    kind = profiles.schema[column]
    if kind.is_nested():
        raise ContractError(f"profile column {column!r} holds {kind}; users are cut by one value each")
    value = pl.col(column)
    if kind.is_numeric():
        below = (value.fill_nan(None) if kind.is_float() else value).rank("max") / value.count()
        number = (below * parts).ceil().cast(pl.Int64)
        label = pl.format(f"{{}}/{parts}", number)
    else:
        label = value.cast(pl.String)
    return profiles.select("user_id", slice=label.fill_null("unknown"))


def without_rare(labels: pl.DataFrame, most: int = 8, least: int = 10) -> pl.DataFrame:
    """Keep the `most` slices with the most ids and call the others "other"; so too one of fewer than `least`.

    Slices of a few say little of a source and much of those few.
    """
    sizes = labels.group_by("slice").len().filter(pl.col("len") >= least)
    kept = sizes.sort("len", "slice", descending=[True, False])["slice"].head(most)
    name = pl.col("slice")
    return labels.with_columns(pl.when(name.is_in(kept.to_list())).then(name).otherwise(pl.lit("other")))


def by_popularity(context: Context) -> pl.DataFrame:
    """Label items new (nobody had them in train), tail or head (`Context.tail`)."""
    tail = context.tail().join(context.popularity, on="item_id", how="left", maintain_order="left")
    label = (
        pl.when(pl.col("count").fill_null(0) == 0).then(pl.lit("new"))
        .when("tail").then(pl.lit("tail"))
        .otherwise(pl.lit("head"))
    )  # fmt: skip
    return tail.select("item_id", slice=label)


def parts(frame: pl.DataFrame, labels: pl.DataFrame, on: str) -> dict[str, pl.DataFrame]:
    """Return a frame's rows by slice, in order of the slices' names.

    `labels` is an id and a `slice`; a row whose `on` has no label is in none.
    """
    cut = frame.join(labels.rename({labels.columns[0]: on}), on=on, maintain_order="left")
    found = cut.partition_by("slice", as_dict=True, include_key=False)
    return {str(name): part for (name,), part in sorted(found.items(), key=lambda one: str(one[0]))}


def of_users(metrics: pl.DataFrame, labels: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """Summarise METRICS by slice of users: slice, source, metric, k, mean, low, high, users.

    Where `metrics` names whose row each is in a column `cluster`, that is who is looked up.
    """
    whose = "cluster" if "cluster" in metrics.columns else "user_id"
    told = metrics.filter(pl.col("user_id").is_not_null())
    cut = parts(told, labels, whose)
    if not cut:
        raise ContractError("no measured user has a label: are the ids those of the evaluation?")
    return pl.concat(
        summarise(part, seed).select(pl.lit(name).alias("slice"), pl.all()) for name, part in cut.items()
    )


def of_items(
    recommendations: pl.DataFrame,
    truth: pl.DataFrame,
    labels: pl.DataFrame,
    names: Sequence[str],
    ks: Sequence[int],
    context: Context,
) -> dict[str, pl.DataFrame]:
    """Return METRICS by slice of items: what each source finds of the truth that lies in the slice."""
    cut = parts(truth, labels, "item_id")
    if not cut:
        raise ContractError("no true item has a label: are the ids those of the catalogue?")
    listed = recommendations.select("user_id").unique()
    return {
        name: measure(recommendations, part, names, ks, context)
        for name, part in cut.items()
        if not part.join(listed, on="user_id", how="semi").is_empty()
    }


def gap(summary: pl.DataFrame) -> pl.DataFrame:
    """Return source, metric, k, best, worst, gap: how far apart the slices' means of `of_users` lie.

    gap = max - min over slices; 0 is fair (user-oriented fairness, Li et al., WWW 2021, eq. 1, for any number
    of groups).
    """
    mean = pl.col("mean")
    return (
        summary.group_by("source", "metric", "k", maintain_order=True)
        .agg(
            best=pl.col("slice").get(mean.arg_max()),
            worst=pl.col("slice").get(mean.arg_min()),
            gap=mean.max() - mean.min(),
        )
        .sort("source", "metric", "k")
    )
