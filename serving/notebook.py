"""What a notebook is given: objects that show themselves, draw themselves, and become frames.

Whatever they show of a log or a catalogue is escaped. Charts need `pip install 'attune[report]'`.
"""

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import polars as pl

from profiles.charts import Chart
from profiles.display import Displayed, frame_table, said, table
from profiles.schema import ContractError
from serving.compare import lines
from serving.figures import Figure, figures
from serving.mistakes import nearest
from serving.report import notes
from serving.write_report import read

if TYPE_CHECKING:
    from serving.workspace import Workspace


@dataclass(frozen=True)
class Evaluation(Displayed):
    """What the last evaluation found: the table, its figures, and the verdict on the two best sources."""

    found: dict[str, Any]  # evaluation.json
    costs: list[dict[str, Any]]  # costs.json

    @classmethod
    def read(cls, workspace: "Workspace") -> "Evaluation":
        """Read what `attune evaluate` left in a workspace."""
        return cls(*read(workspace.folder))

    def to_polars(self) -> pl.DataFrame:
        """Return source, metric, k, mean, low, high, users, and a reason where one was not measured."""
        return pl.DataFrame(self.found["results"], infer_schema_length=None)

    @property
    def figures(self) -> dict[str, Figure]:
        """The figures of the report by name."""
        return figures(self.found, self.costs)

    def plot(self, name: str = "ranking") -> Chart:
        """Draw one of the figures of the report, as "ranking", "coverage" or "slices_activity"."""
        known = self.figures
        if name not in known:
            raise ContractError(f"there is no figure {name!r}{nearest(name, list(known))}")
        return known[name].draw()

    def _repr_html_(self) -> str:
        ranking = self.figures["ranking"]
        told = "".join(f"<br>{escape(line)}" for line in notes(self.found))
        head = escape(self.found["verdict"][0]) if self.found["verdict"] else ""
        shown = table(ranking.head, ranking.rows, numbers=ranking.head[1:])
        return f"<p><strong>{head}</strong>{told}</p>{shown}"


@dataclass(frozen=True)
class Verdict(Displayed):
    """Which of two sources is better: what `attune compare` says."""

    found: dict[str, Any]

    def __str__(self) -> str:
        return lines(self.found)

    def to_polars(self) -> pl.DataFrame:
        """Return metric, k, the means of both, difference, low, high, p (Holm's), users."""
        a, b, k = (self.found[name] for name in ("a", "b", "k"))
        rows = [
            {
                "metric": name, "k": k, a: of["a"], b: of["b"], "difference": of["difference"]["mean"],
                "low": of["difference"]["low"], "high": of["difference"]["high"], "p": of["holm"],
                "users": of["users"],
            }
            for name, of in self.found["metrics"].items()
        ]  # fmt: skip
        return pl.DataFrame(rows, infer_schema_length=None)

    def plot(self) -> Chart:
        """Draw the difference by the metric that decides, with its interval."""
        from recsys.plots import difference

        a, b, metric, k = (self.found[name] for name in ("a", "b", "metric", "k"))
        row = self.to_polars().filter(metric=metric)
        shown = row.select(
            pl.lit(f"{metric}@{k}").alias("label"), pl.col("difference").alias("mean"), "low", "high"
        )
        return difference(shown, f"{a} minus {b}")

    def _repr_html_(self) -> str:
        head, *rest = (escape(line) for line in self.found["verdict"])
        return f"<p><strong>{head}</strong><br>{'<br>'.join(rest)}</p>{frame_table(self.to_polars())}"


@dataclass(frozen=True)
class Lists(Displayed):
    """Recommended lists with titles, and what each source added to each score."""

    frame: pl.DataFrame  # RECOMMENDATIONS, title and, where asked for, why
    contributions: pl.DataFrame

    def to_polars(self) -> pl.DataFrame:
        """Return RECOMMENDATIONS with titles."""
        return self.frame

    def plot(self, user: str | None = None) -> Chart:
        """Draw what makes up the scores of a user's list; of the first user unless one is named."""
        from recsys.plots import parts

        known = self.frame["user_id"].unique(maintain_order=True).to_list()
        user = user or (known[0] if known else "")
        if user not in known:
            raise ContractError(f"there is no list of user {user!r}{nearest(user, known)}")
        name = pl.format("{}. {}", "rank", pl.coalesce("title", "item_id"))
        of = self.frame.filter(user_id=user).select("user_id", "item_id", label=name)
        told = of.join(self.contributions, on=["user_id", "item_id"], maintain_order="left")
        return parts(told.select("label", "source", "contribution"), "score, by the source it comes from")

    def _repr_html_(self) -> str:
        columns = [name for name in ("rank", "title", "score", "why") if name in self.frame.columns]
        shown = self.frame.with_columns(title=pl.coalesce("title", "item_id"))
        users = shown.partition_by("user_id", as_dict=True, maintain_order=True)
        return "".join(
            table(columns, of.select(columns).iter_rows(), str(user), numbers=("score",))
            for (user,), of in users.items()
        )


class Profile(dict[str, Any], Displayed):
    """What the log says of one user: attributes, every profile column, the latest events."""

    def to_polars(self) -> pl.DataFrame:
        """Return column, value (as text) of all that is known."""
        known = {**self["attributes"], **self["profile"]}
        rows = [(name, _text(value)) for name, value in known.items() if value not in (None, [], 0, False)]
        return pl.DataFrame(rows, schema={"column": pl.String, "value": pl.String}, orient="row")

    def plot(self) -> Chart:
        """Draw how the user's choices are shared among categories, tags and brands."""
        from recsys.plots import parts

        rows = [
            {"label": of["value"], "source": kind, "contribution": of["share"]}
            for kind in ("category", "tag", "brand")
            for of in self["profile"].get(f"{kind}_affinity") or []
        ]
        types = {"label": pl.String, "source": pl.String, "contribution": pl.Float64}
        return parts(pl.DataFrame(rows, schema=types), f"share of the choices of {self['user_id']}")

    def _repr_html_(self) -> str:
        rows = self.to_polars().iter_rows()
        latest = [
            (e["timestamp"], e["event_type"], e["item_id"], e["text"]) for e in self["events"]
        ]  # fmt: skip
        events = table(["when", "what", "item", "text"], latest, "latest events")
        return table(["column", "value"], rows, f"user {self['user_id']}") + events


def _text(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(" ".join(said(part) for part in of.values()) for of in value)
    return said(value)
