"""The demo: the sample shop of `profiles.simulate` through the whole chain, with its answer beside it."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from rich.console import Console

from profiles import manifest
from profiles.simulate import World, WorldConfig, simulate
from recsys.split import SplitConfig
from serving.progress import Progress

if TYPE_CHECKING:
    from serving.workspace import Workspace

SAMPLE_TOML = """\
# The embedded sample: a simulated shop whose true preferences are known (sample/oracle.parquet).
events = [{ name = "shop", path = "sample/events.parquet" }]
items = [{ name = "catalogue", path = "sample/items.parquet" }]
users = [{ name = "members", path = "sample/users.parquet", attributes = ["country", "age_band"] }]

[interactions]
weights = { view = 1, cart = 2, purchase = 4, rating = 1, review = 1, query = 0 }
minimum_value = { rating = 3, review = 3 }

[recommenders.popularity]
[recommenders.recent]
type = "popularity"
half_life_days = 14
[recommenders.item_knn]
[recommenders.als]
factors = 32
[recommenders.ease]
l2 = 200
[recommenders.content_text]

[evaluation]
reference = "sample/oracle.parquet"
slices = ["attribute_age_band"]
"""


def sample(folder: str | Path, users: int = 600, items: int = 300, events: int = 30_000) -> "Workspace":
    """Return a workspace of the sample shop, nothing run in it yet; the same sizes give the same shop."""
    from serving.workspace import Workspace

    config = WorldConfig(users=users, items=items, events=events)
    return Workspace(folder, write_sample(Path(folder), quiet=True, config=config))


def write_sample(workspace: Path, quiet: bool = False, config: WorldConfig | None = None) -> Path:
    """Write the sample's files and its attune.toml into a workspace and return the configuration's path."""
    folder = workspace / "sample"
    folder.mkdir(parents=True, exist_ok=True)
    with Progress(quiet).task("simulate a shop"):
        world = simulate(config or WorldConfig())
        for name, frame in (("events", world.events), ("items", world.items), ("users", world.users)):
            frame.write_parquet(folder / f"{name}.parquet")
        _oracle(world).write_parquet(folder / "oracle.parquet")
    path = workspace / "attune.toml"
    manifest.write_atomically(path, SAMPLE_TOML.encode())
    return path


def _oracle(world: World) -> pl.DataFrame:
    """Return the true preferences at the evaluation's cut, (user, item) by score."""
    done = world.events.filter(pl.col("item_id").is_not_null())["timestamp"].sort()
    cut = done[int(SplitConfig().quantile * (len(done) - 1))]
    scores = world.preferences(cut)
    users, items = world.users["user_id"], world.items["item_id"]
    return pl.DataFrame(
        {
            "user_id": users.gather(np.repeat(np.arange(len(users)), len(items))),
            "item_id": items.gather(np.tile(np.arange(len(items)), len(users))),
            "score": scores.ravel(),
        }
    )


def show(workspace: "Workspace") -> None:
    """Print a few users' lists with titles, and what to type next."""
    console = Console(highlight=False, width=120)
    titles = workspace.release.catalogue.attributes.select("item_id", "title")
    lists = workspace.read("recommendations").join(titles, on="item_id", how="left")
    events = workspace.snapshot.frame("events").join(titles, on="item_id", how="left")
    active = events.group_by("user_id").len().sort("len", "user_id", descending=[True, False])["user_id"]
    for user in (active[0], active[len(active) // 2], active[-1]):
        past = events.filter(pl.col("user_id") == user, pl.col("title").is_not_null())
        liked = past["title"].reverse().unique(maintain_order=True).head(3).to_list()
        console.print(f"\n[bold]{user}[/bold], lately: {'; '.join(liked) or 'only searched so far'}")
        for row in lists.filter(pl.col("user_id") == user).sort("rank").head(5).iter_rows(named=True):
            console.print(f"  {row['rank']}. {row['title']}", markup=False)
    attune = "attune" if shutil.which("attune") else sys.argv[0]
    steps = {
        f"{attune} serve --workspace {workspace.folder} --port 8000": "answers over HTTP",
        f"{attune} show user {active[0]} --workspace {workspace.folder}": "one user, and why",
        f"{attune} report --workspace {workspace.folder}": "the evaluation as a page, with charts",
        f"{attune} init": "a configuration for your own data",
    }
    width = max(map(len, steps))
    lines = [f"  {command:{width}}  {what}" for command, what in steps.items()]
    console.print("\n".join(["\nNext:", *lines]), markup=False, soft_wrap=True)
