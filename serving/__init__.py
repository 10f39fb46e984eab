"""Serving: from rankings to answers. `Workspace` is the door for notebooks."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.workspace import Workspace

__all__ = ["Workspace"]


def __getattr__(name: str) -> object:
    """Load the workspace when it is asked for: `attune --help` does without it."""
    if name == "Workspace":
        from serving.workspace import Workspace

        return Workspace
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
