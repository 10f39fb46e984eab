"""Peers that need other versions than ours: a virtual environment of its own each, and a runner inside it."""

import json
import os
import subprocess
import venv
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.process import ROOT, Figures, NotReached
from profiles import manifest

# torch is that of our own environment, so that a peer runs on the same kernels where it can.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "recbole": ("torch<2.14", "numpy<2", "scipy<1.13", "pandas<2.2", "recbole==1.2.1"),
    "rectools": ("torch<2.14", "rectools[torch]==0.19.0"),
    "faiss": ("faiss-cpu", "numpy"),
    "obp": ("torch<2.14", "obp==0.4.1"),
}


def asked(environments: Path, peer: str, work: str, **parameters: Any) -> Figures:
    """Do a piece of work of `benchmarks/peer_<peer>.py` in the peer's environment, made where it is missing.

    Raises NotReached with the reason where the environment cannot be made or the peer fails.
    """
    if not environments.name:
        raise NotReached(f"no folder is given where {peer} may be installed")
    runner = ROOT / "benchmarks" / f"peer_{peer}.py"
    given = json.dumps({"work": work, **parameters}, default=str)
    environment = {n: v for n, v in os.environ.items() if n != "PYTHONPATH"}
    with TemporaryDirectory(prefix=f"{peer}-") as folder:  # RecBole leaves logs where it runs
        done = subprocess.run(
            [_python(environments.resolve(), peer), runner, given],
            env=environment, cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise NotReached(f"{peer} failed: {_last(done.stderr)}")
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def _python(environments: Path, peer: str) -> Path:
    """Return the interpreter of a peer's environment."""
    place = environments / f"{peer}-{manifest.content_key(*NEEDS[peer])}"
    python = place / "bin" / "python"
    if not (place / "installed").exists():
        venv.create(place, clear=True, with_pip=True)
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *NEEDS[peer]],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise NotReached(f"{peer} cannot be installed: {_last(done.stderr)}")
        (place / "installed").touch()
    return python


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["it says nothing"])[-1][:300]
