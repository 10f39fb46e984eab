"""What users say of themselves, as profile columns: cleaned, and consents as plain yes or no."""

import polars as pl

from profiles.features import FeaturesConfig
from profiles.schema import ContractError

YES = ("true", "yes", "y", "1", "on", "granted")


def normalised(profiles: pl.DataFrame, users: pl.DataFrame, config: FeaturesConfig) -> pl.DataFrame:
    """Join `said` to profiles: an attribute of who has no row is null, a consent is not given."""
    joined = profiles.join(said(users, config), on="user_id", how="left", maintain_order="left")
    return joined.with_columns(pl.col(f"consent_{name}").fill_null(False) for name in config.consents)


def said(users: pl.DataFrame, config: FeaturesConfig) -> pl.DataFrame:
    """Return user_id, attribute_<name> for each user attribute and consent_<name> for each consent.

    Strings lose blanks at their ends and doubled ones, and their case; what is empty then is null.
    Other types stay as given. A consent is given only where the attribute says so in words, as 1 or as
    true.
    """
    missing = [name for name in (*config.consents, *config.audience) if name not in users.columns]
    if missing and len(users):
        raise ContractError(
            f"[profiles] names the user attribute {missing[0]!r}, which users do not have; "
            f"they have {', '.join(c for c in users.columns if c != 'user_id') or 'none'}"
        )
    given = [c for c in users.columns if c not in ("user_id", "valid_from", *config.consents)]
    return users.select(
        "user_id",
        *(cleaned(users, name).alias(f"attribute_{name}") for name in given),
        *(_consent(users, name).alias(f"consent_{name}") for name in config.consents),
    )


def cleaned(users: pl.DataFrame, name: str) -> pl.Expr:
    """Return an attribute without what only spelling sets apart."""
    if users.schema[name] != pl.String:
        return pl.col(name)
    text = pl.col(name).str.strip_chars().str.replace_all(r"\s+", " ").str.to_lowercase()
    return pl.when(text != "").then(text)


def _consent(users: pl.DataFrame, name: str) -> pl.Expr:
    if name not in users.columns:
        return pl.lit(False)
    if users.schema[name].is_numeric():
        return (pl.col(name) == 1).fill_null(False)
    return pl.col(name).cast(pl.String).str.strip_chars().str.to_lowercase().is_in(YES).fill_null(False)
