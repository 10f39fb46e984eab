"""A small workspace, run once and copied for every test that changes it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

from profiles.simulate import WorldConfig
from serving.demo import write_sample
from serving.pipeline import Pipeline
from serving.workspace import Workspace


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small products on many threads are slow where tests share a machine."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a workspace on which everything has run; not to be written to."""
    folder = tmp_path_factory.mktemp("finished") / "workspace"
    config = WorldConfig(users=300, items=200, events=12_000)
    written = write_sample(folder, quiet=True, config=config)
    Pipeline(Workspace(folder, written)).run()
    return folder


@pytest.fixture
def workspace(finished: Path, tmp_path: Path) -> Workspace:
    """A copy of the finished workspace, free to be changed."""
    folder = tmp_path / "workspace"
    shutil.copytree(finished, folder)
    copied = Workspace(folder, folder / "attune.toml")
    copied.remember()  # settings.json names the folder the sources are relative to
    return copied


VARIANTS = {
    "fitted": "",
    "all": """[blend]
weights = { popularity = 0.3, recent = 0.2, item_knn = 1, als = 1, ease = 1, content_text = 0.5 }""",
    "shallow": """[blend]
weights = { item_knn = 1, ease = 1, content_text = 1 }
depth = 4
constant = 1""",
    "short memory": """[blend]
weights = { als = 1, ease = 1, content_text = 1 }
[recommend]
history_limit = 3""",
    "repeats": """repeat_consumption = true
[blend]
weights = { ease = 1, content_text = 1 }""",
    "purchases mask": """seen_events = ["purchase"]
[blend]
weights = { ease = 1, recent = 1 }""",
}  # what is put behind the sample's attune.toml, whose last section is [evaluation]


@pytest.fixture(scope="session")
def variant(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Workspace]:
    """`variant("all")` is a workspace run with other settings, made once; not to be written to."""
    made: dict[str, Workspace] = {}

    def make(name: str) -> Workspace:
        if name not in made:
            folder = tmp_path_factory.mktemp("variant") / "workspace"
            shutil.copytree(finished, folder)
            config = folder / "attune.toml"
            config.write_text(config.read_text() + VARIANTS[name] + "\n")
            made[name] = Workspace(folder, config)
            Pipeline(made[name]).run()
        return made[name]

    return make
