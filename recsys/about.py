"""What each recommender is, costs and needs, from its own declarations and docstrings."""

import inspect
import sys
from dataclasses import dataclass
from typing import Any

from profiles.schema import ContractError
from recsys.models import RECOMMENDERS
from recsys.recommender import COSTS, NEEDS, Recommender


@dataclass(frozen=True)
class About:
    """One recommender, for a person who chooses."""

    name: str
    title: str  # name, idea and paper
    cost: str
    needs: str
    update: str  # what `Recommender.update` does
    details: str  # the equation, what it cannot do, what memory it takes
    settings: dict[str, dict[str, Any]]  # default and meaning by name


def about(name: str) -> About:
    """Say what the recommender of this registry name is."""
    if name not in RECOMMENDERS:
        raise ContractError(f"no recommender is called {name!r}; known are {', '.join(sorted(RECOMMENDERS))}")
    kind = RECOMMENDERS[name]
    title = (inspect.getdoc(sys.modules[kind.__module__]) or "").split("\n")[0].rstrip(".")
    return About(
        name=name,
        title=title,
        cost=COSTS[kind.cost],
        needs=NEEDS[kind.needs],
        update="a fit, exactly" if kind.updates_exactly() else "goes on from what was learned, a few passes",
        details=inspect.getdoc(kind) or "",
        settings=_settings(kind),
    )


def everyone() -> list[About]:
    """Return all recommenders, the cheapest to fit first."""
    order = list(COSTS)
    names = sorted(RECOMMENDERS, key=lambda name: (order.index(RECOMMENDERS[name].cost), name))
    return [about(name) for name in names]


def _settings(kind: type[Recommender]) -> dict[str, dict[str, Any]]:
    fields = kind.config_class.model_fields
    return {
        name: {"default": field.get_default(call_default_factory=True), "meaning": field.description}
        for name, field in fields.items()
    }
