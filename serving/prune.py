"""Old snapshots, with what was derived from them, removed: answers and releases read only the newest.

A release has its own copy of what it compares with. The snapshot that is in use stays whatever its age;
parts of the log and of the history that it shares with removed ones stay with it.
"""

import shutil

from profiles.snapshot import Snapshot
from serving.workspace import Workspace


def prune(workspace: Workspace, keep: int) -> list[str]:
    """Remove all but the `keep` newest snapshots and the one in use; returns their names, oldest first.

    One that is damaged counts as the oldest. A folder goes under a name of unfinished ones first: what a
    kill leaves of it, the next run sweeps away.
    """
    with workspace.alone():
        root = workspace.folder / "snapshots"
        used = workspace.state().get("build", {}).get("snapshot")
        known = sorted(root.glob("[!.]*"), key=lambda folder: (_age(Snapshot(folder)), folder.name))
        gone = [folder.name for folder in known[: max(0, len(known) - keep)] if folder.name != used]
        for name in gone:
            for folder in (workspace.folder / "derived" / name, root / name):
                if folder.exists():
                    left = folder.rename(folder.with_name(f".{name}-removed"))
                    shutil.rmtree(left)
    return gone


def _age(snapshot: Snapshot) -> tuple[int, str]:
    try:
        return int(snapshot.about["watermark"]), str(snapshot.about["as_of"])
    except (ValueError, KeyError, OSError):
        return -1, ""
