"""Which release a train may go on from, instead of fitting anew.

Only one that was made by the same settings from a log of which nothing was taken out since: what was
erased lives on in models that learned it, and in all that go on from them.
"""

import json
from collections.abc import Mapping
from typing import Any

from profiles import manifest
from profiles.schema import ContractError
from serving.release import Release, Releases, load

ALIKE = ("recommenders", "blend", "interactions", "evaluation", "text")  # what models and weights hang on


def base(releases: Releases, now: Mapping[str, Any]) -> tuple[Release | None, str]:
    """Return the release to go on from and nothing, or none and why not; `now` is the new one's manifest.

    It is the last active one of another snapshot, so that a train that is asked for again, after a kill or
    by force, goes on from where the first did and not from its result.
    """
    try:
        for name in reversed(releases.trail()):
            before = manifest.read(releases.root / name)
            if before["snapshot"] == now["snapshot"]:
                continue
            if before.get("revision") != now["revision"]:
                return None, f"release {name} may know events that were taken out of the log since"
            changed = [part for part in ALIKE if _said(before, part) != _said(now, part)]
            if changed:
                return None, f"{', '.join(changed)} changed since release {name}"
            return load(releases.root / name), ""
    except ContractError as error:
        return None, str(error)
    return None, "there is no earlier release"


def _said(about: Mapping[str, Any], part: str) -> Any:
    """Return what a manifest says of a part, as it reads back from a file."""
    return json.loads(json.dumps(about[part] if part in about else about["settings"][part]))
