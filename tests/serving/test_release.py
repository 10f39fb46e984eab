"""A release is immutable, checked before it is parsed, and activated in one step."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import issparse

from profiles import manifest
from profiles.schema import ContractError
from serving import release as releases_module
from serving.engine import Engine
from serving.pipeline import Pipeline
from serving.release import Release, Releases, load, publish
from serving.workspace import Workspace


@pytest.fixture(scope="session")
def kept(finished: Path) -> Release:
    """The release of the finished workspace."""
    return Workspace(finished).release


def other(release: Release, weight: float = 0.5, **facts: object) -> Release:
    """Return a release that differs in its weights, so in its name."""
    return Release(
        "",
        {**release.about, **facts},
        release.catalogue,
        release.recommenders,
        {"ease": weight},
        release.blend,
    )


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return every file below a folder: when it was written, and what it holds."""
    return {
        str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes())
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


ANSWER = """
import json, sys
from datetime import datetime
from serving.engine import Engine
from serving.workspace import Workspace
workspace = Workspace(sys.argv[1])
engine, at = Engine(workspace, workspace.release), datetime.fromisoformat(sys.argv[2])
answers = {u: engine.recommend(engine.past(u, at), 15)["items"] for u in json.loads(sys.argv[3])}
heavy = {"torch", "implicit", "transformers", "torch_geometric"} & set(sys.modules)
print(json.dumps({"answers": answers, "heavy": sorted(heavy)}))
"""


def test_a_new_process_answers_the_same_without_torch(finished: Path) -> None:
    workspace = Workspace(finished)
    engine, as_of = Engine(workspace, workspace.release), workspace.snapshot.as_of
    texts = set(workspace.snapshot.frame("texts").filter(owner="user")["id"])
    every = workspace.snapshot.frame("user_profiles")["user_id"]
    users = [*[user for user in every if user not in texts][:10], min(texts)]
    here = {user: engine.recommend(engine.past(user, as_of), 15)["items"] for user in users}
    ran = subprocess.run(
        [sys.executable, "-c", ANSWER, str(finished), as_of.isoformat(), json.dumps(users)],
        capture_output=True,
        text=True,
        check=True,
    )
    there = json.loads(ran.stdout)
    assert there["heavy"] == []
    assert there["answers"] == here


def test_publishing_twice_touches_nothing(kept: Release, tmp_path: Path) -> None:
    name = publish(other(kept), tmp_path)
    before = tree(tmp_path)
    assert publish(other(kept), tmp_path) == name
    assert tree(tmp_path) == before
    assert Releases(tmp_path).names() == [name]


def test_the_name_comes_from_the_content(kept: Release, tmp_path: Path) -> None:
    names = [
        publish(release, tmp_path)
        for release in (other(kept), other(kept, 0.25), other(kept, 0.5, as_of="2020-01-01T00:00:00+00:00"))
    ]
    assert len(set(names)) == 3
    assert all(len(name) == 16 for name in names)
    elsewhere = tmp_path / "elsewhere"
    assert publish(other(kept), elsewhere) == names[0]


def test_what_is_published_is_what_is_loaded(kept: Release, tmp_path: Path) -> None:
    name = publish(other(kept), tmp_path)
    read = load(tmp_path / name)
    assert read.name == name
    assert read.weights == {"ease": 0.5}
    assert read.blend == kept.blend
    assert read.catalogue.items.ids.equals(kept.catalogue.items.ids)
    assert read.catalogue.attributes.equals(kept.catalogue.attributes)
    np.testing.assert_array_equal(read.catalogue.available_from, kept.catalogue.available_from)
    np.testing.assert_array_equal(read.catalogue.available_to, kept.catalogue.available_to)
    for source, recommender in kept.recommenders.items():
        assert type(read.recommenders[source]) is type(recommender)
        assert read.recommenders[source].config == recommender.config
        for part in recommender.state:
            one, other_one = getattr(read.recommenders[source], part), getattr(recommender, part)
            if issparse(other_one):
                assert (one != other_one).nnz == 0
            else:
                np.testing.assert_array_equal(one, other_one)
    assert set(read.about["settings"]) == {"interactions", "profiles", "evaluation", "text", "recommend"}
    assert {"created", "versions", "files", "weights", "sources"} <= set(read.about)


def damaged(path: Path, how: str) -> None:
    """Cut a file to half, empty it, flip one bit of it, add a byte, or take it away."""
    data = bytearray(path.read_bytes())
    if how == "removed":
        path.unlink()
        return
    if how == "cut":
        data = data[: len(data) // 2]
    elif how == "emptied":
        data = bytearray()
    elif how == "flipped":
        at = random.Random(str(path.name)).randrange(len(data) * 8)
        data[at // 8] ^= 1 << at % 8
    elif how == "longer":
        data += b"\n"
    path.write_bytes(data)


def forbid_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail at once where a release is parsed at all."""

    def parse(*_: object, **__: object) -> None:
        raise AssertionError("parsed before it was checked")

    monkeypatch.setattr(releases_module.pl, "read_parquet", parse)
    monkeypatch.setattr(releases_module.models, "load", parse)


@pytest.mark.parametrize("how", ["cut", "emptied", "flipped", "longer", "removed"])
def test_a_damaged_file_is_refused_by_name_before_it_is_parsed(
    kept: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    name = publish(kept, tmp_path / "good")
    files = [p.relative_to(tmp_path / "good") for p in (tmp_path / "good").rglob("*") if p.is_file()]
    assert len(files) == 3 + 4 + 3 * len(kept.recommenders)  # four of the context
    forbid_parsing(monkeypatch)
    for file in files:
        if file.name == manifest.MANIFEST and how == "longer":
            continue  # white space behind JSON says nothing
        broken = tmp_path / "broken"
        shutil.copytree(tmp_path / "good", broken)
        damaged(broken / file, how)
        with pytest.raises(ContractError) as error:
            load(broken / name)
        assert (str(broken / file) in str(error.value)) or (
            how == "removed" and file.name == manifest.MANIFEST
        )
        shutil.rmtree(broken)


def test_every_bit_of_a_manifest_counts(
    kept: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 flips anywhere: refused, unless what is read is the same (the case of a hex digit of an escape)."""
    name = publish(kept, tmp_path)
    path = tmp_path / name / manifest.MANIFEST
    good = path.read_bytes()
    meaning = json.loads(good)
    forbid_parsing(monkeypatch)
    draw = random.Random(5)
    for _ in range(300):
        at = draw.randrange(len(good) * 8)
        data = bytearray(good)
        data[at // 8] ^= 1 << at % 8
        path.write_bytes(data)
        try:
            same = json.loads(bytes(data)) == meaning
        except ValueError:
            same = False
        if not same:
            with pytest.raises(ContractError):
                load(tmp_path / name)


def test_a_file_too_many_is_refused(kept: Release, tmp_path: Path) -> None:
    name = publish(kept, tmp_path)
    (tmp_path / name / "recommenders" / "extra.npz").write_bytes(b"anything")
    with pytest.raises(ContractError, match=r"extra\.npz: not named in the manifest"):
        load(tmp_path / name)


def test_what_is_missing_or_damaged_is_not_activated(kept: Release, tmp_path: Path) -> None:
    releases = Releases(tmp_path)
    assert releases.active() is None
    assert releases.names() == []
    with pytest.raises(ContractError, match="run `attune train`"):
        releases.load_active()
    with pytest.raises(ContractError, match="there is no release 'a'; there are none"):
        releases.activate("a")
    first, second = publish(other(kept), tmp_path), publish(other(kept, 0.25), tmp_path)
    releases.activate(first)
    pointer = (tmp_path / "active.json").read_bytes()
    for name in ("nothing", "../elsewhere", ""):
        with pytest.raises(ContractError, match="there is no release"):
            releases.activate(name)
    damaged(tmp_path / second / "catalogue.parquet", "flipped")
    with pytest.raises(ContractError, match=r"catalogue\.parquet"):
        releases.activate(second)
    assert (tmp_path / "active.json").read_bytes() == pointer
    assert releases.load_active().name == first


def test_trail_and_rollback(kept: Release, tmp_path: Path) -> None:
    releases = Releases(tmp_path)
    a, b, c = (publish(other(kept, w), tmp_path) for w in (0.1, 0.2, 0.3))
    for name in (a, b, c, b):
        releases.activate(name)
    assert releases.trail() == [a, c, b]
    assert releases.active() == b
    assert releases.rollback() == c
    assert releases.rollback() == a
    assert releases.trail() == [a]
    with pytest.raises(ContractError, match="no earlier release"):
        releases.rollback()
    assert releases.load_active().name == a
    releases.activate(b)
    releases.activate(c)
    shutil.rmtree(tmp_path / b)  # somebody made room
    assert releases.rollback() == a
    # A damaged release is no place to go back to, and says so.
    releases.activate(c)
    damaged(tmp_path / a / "blend.json", "cut")
    with pytest.raises(ContractError, match=r"blend\.json"):
        releases.rollback()
    assert releases.active() == c


def test_one_unreadable_release_does_not_stand_in_the_way_of_others(kept: Release, tmp_path: Path) -> None:
    """The very moment to activate another one, or go back."""
    releases = Releases(tmp_path)
    a, b, c = (publish(other(kept, w), tmp_path) for w in (0.1, 0.2, 0.3))
    for name in (a, b):
        releases.activate(name)
    damaged(tmp_path / b / manifest.MANIFEST, "cut")
    assert set(releases.names()) == {a, c}
    assert releases.rollback() == a
    releases.activate(c)
    assert releases.active() == c
    with pytest.raises(ContractError, match="there is no release"):
        releases.activate(b)


def test_a_damaged_pointer_says_what_to_do(kept: Release, tmp_path: Path) -> None:
    releases = Releases(tmp_path)
    name = publish(kept, tmp_path)
    releases.activate(name)
    for text in ("", "{", "[]", '{"trail": 3}', '{"trail": [3]}', '"x"', '{"other": []}'):
        (tmp_path / "active.json").write_text(text)
        with pytest.raises(ContractError, match=r"active\.json.*activate a release again"):
            releases.active()
        releases.activate(name)
        assert releases.active() == name


def test_the_oldest_is_listed_first(kept: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for second, weight in ((30, 0.1), (10, 0.2), (20, 0.3)):

        class Clock(releases_module.datetime):  # type: ignore[name-defined,misc]
            moment = second

            @classmethod
            def now(cls, tz: object = None) -> "Clock":
                return cls(2024, 1, 1, 0, 0, cls.moment, tzinfo=tz)

        monkeypatch.setattr(releases_module, "datetime", Clock)
        made.append(publish(other(kept, weight), tmp_path))
    assert Releases(tmp_path).names() == [made[1], made[2], made[0]]


PUBLISH = textwrap.dedent("""
    import sys
    from dataclasses import replace
    from pathlib import Path
    from serving.release import Releases, load, publish

    root = Path(sys.argv[1])
    release = load(root / sys.argv[2])
    print("ready", flush=True)
    for n in range(100_000):
        name = publish(replace(release, name="", weights={"ease": 1 + int(sys.argv[3]) + n}), root)
        Releases(root).activate(name)
""")


def test_a_killed_publish_leaves_the_active_release_whole(kept: Release, tmp_path: Path) -> None:
    """kill -9 at a random moment of publishing and activating over and over."""
    releases = Releases(tmp_path)
    first = publish(kept, tmp_path)
    releases.activate(first)
    draw = random.Random(11)
    alive = set()
    for trial in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", PUBLISH, str(tmp_path), first, str(trial * 10_000)],
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(draw.uniform(0.0, 0.15))
            os.kill(writer.pid, signal.SIGKILL)
        active = releases.load_active()  # every hash checked
        alive.add(active.name)
        for name in releases.names():
            manifest.verify(tmp_path / name)
        assert active.name in releases.names()
        assert not [name for name in releases.names() if name.startswith(".")]
        assert set(releases.trail()) <= set(releases.names())
    assert len(alive) > 1  # some were killed after they had activated another


def test_the_pipelines_release_is_the_one_that_answers(workspace: Workspace) -> None:
    """Training on unchanged data publishes the same name again, and touches nothing."""
    name = workspace.releases.active()
    before = tree(workspace.folder / "releases" / str(name))
    Pipeline(workspace).run(("train",), force=True)
    assert workspace.releases.active() == name
    assert tree(workspace.folder / "releases" / str(name)) == before
