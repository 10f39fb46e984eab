"""Serving: from rankings to answers. `Workspace` is the door for notebooks, `sample` a shop to try it on."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.demo import sample
    from serving.workspace import Workspace

__all__ = ["Workspace", "sample"]


def __getattr__(name: str) -> object:
    """Load what is asked for when it is: `attune --help` does without."""
    if name == "Workspace":
        from serving.workspace import Workspace

        return Workspace
    if name == "sample":
        from serving.demo import sample

        return sample
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
