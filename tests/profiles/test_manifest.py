"""Sealed folders: whole or not at all, and no byte of any file can change, go or come unnoticed."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from profiles import manifest
from profiles.schema import ContractError

ABOUT = {
    "as_of": datetime(2024, 1, 1, tzinfo=UTC),
    "n": 3,
    "deep": {"b": [1.5, None], "a": "é🎬"},
    "t": (1, 2),
}
FILES = {
    "a.bin": bytes(range(256)) * 20,
    "empty": b"",
    "one": b"x",
    "sub/deep/b 'é'.json": b'{"k": 20}',
    "sub/manifest.json": b"{}",
}


def sealed(place: Path) -> Path:
    with manifest.building(place, ABOUT) as folder:
        for name, data in FILES.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sealed(tmp_path / "root" / "thing")


def test_a_sealed_folder_verifies_and_says_what_it_is(folder: Path) -> None:
    about = manifest.verify(folder)
    assert about == manifest.read(folder)
    assert about["files"] == {name: manifest.digest(data) for name, data in FILES.items()}
    plain = {name: about[name] for name in ABOUT}
    assert plain == ABOUT | {"as_of": "2024-01-01 00:00:00+00:00", "t": [1, 2]}
    assert set(about) == {*ABOUT, "files", "seal"}
    assert manifest.sha256(folder / "a.bin") == manifest.digest(FILES["a.bin"])
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # the published SHA-256
    assert manifest.digest(b"") == about["files"]["empty"] == empty
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert [p.name for p in folder.parent.iterdir()] == ["thing"]


def missing(path: Path) -> None:
    path.unlink()


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes() or b"\0")
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def grown(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n{}")


def cleared(path: Path) -> None:
    path.write_bytes(b"")


def replaced(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [missing, flipped, truncated, grown, cleared, replaced])
@pytest.mark.parametrize("name", FILES)
def test_harm_to_any_file_is_found_and_named(name: str, harm: Callable[[Path], None], folder: Path) -> None:
    if name == "empty" and harm in (truncated, cleared):
        pytest.skip("there is nothing to take from an empty file")
    harm(folder / name)
    said = "missing, though the manifest names it" if harm in (missing, replaced) else "SHA-256 differs"
    with pytest.raises(ContractError, match=said) as caught:
        manifest.verify(folder)
    assert str(folder / name) in str(caught.value)


@pytest.mark.parametrize("harm", [missing, grown, cleared])
def test_harm_to_the_manifest_is_found(harm: Callable[[Path], None], folder: Path) -> None:
    harm(folder / manifest.MANIFEST)
    with pytest.raises(ContractError, match=r"there is no manifest.json|not readable as JSON"):
        manifest.verify(folder)


def test_no_bit_of_the_manifest_can_flip(folder: Path) -> None:
    path = folder / manifest.MANIFEST
    data, about = path.read_bytes(), manifest.read(folder)
    problems = []
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :])
        try:
            assert manifest.verify(folder) == about  # a blank became another blank
        except ContractError as error:
            problems.append(str(error))
    assert len(problems) >= len(data) - sum(byte in b" \n" for byte in data)
    assert all(str(path) in problem for problem in problems)
    for size in range(len(data) - 2):
        path.write_bytes(data[:size])
        with pytest.raises(ContractError, match=r"not readable as JSON"):
            manifest.verify(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about | {"n": 4},
        lambda about: about | {"more": 1},
        lambda about: {k: v for k, v in about.items() if k != "n"},
        lambda about: {k: v for k, v in about.items() if k != "seal"},
        lambda about: {k: v for k, v in about.items() if k != "files"},
        lambda about: about | {"files": {}},
        lambda about: about | {"seal": None},
    ],
)
def test_a_manifest_written_by_hand_is_refused(
    change: Callable[[dict[str, Any]], dict[str, Any]], folder: Path
) -> None:
    path = folder / manifest.MANIFEST
    path.write_text(json.dumps(change(manifest.read(folder))))
    with pytest.raises(ContractError, match="its content is not what was published"):
        manifest.verify(folder)


@pytest.mark.parametrize("data", [b"[]", b"3", b"null", b'"files"'])
def test_a_manifest_that_is_no_object_is_refused(data: bytes, folder: Path) -> None:
    (folder / manifest.MANIFEST).write_bytes(data)
    with pytest.raises(ContractError, match="not readable as a JSON object"):
        manifest.read(folder)


@pytest.mark.parametrize("name", ["new", "sub/new", ".hidden", "manifest.json.bak", "sub/deep/manifest.json"])
def test_a_file_too_many_is_found(name: str, folder: Path) -> None:
    (folder / name).write_bytes(b"")
    with pytest.raises(ContractError, match="not named in the manifest") as caught:
        manifest.verify(folder)
    assert str(folder / name) in str(caught.value)


def test_a_copy_verifies_elsewhere(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "other name"
    shutil.copytree(folder, copy)
    assert manifest.verify(copy) == manifest.verify(folder)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    def build() -> None:
        with manifest.building(tmp_path / "root" / "thing", {}) as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / "half").write_bytes(b"x")
            raise error

    with pytest.raises(error):
        build()
    assert list((tmp_path / "root").iterdir()) == []


def test_a_manifest_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        sealed(tmp_path / "thing")
    assert list(tmp_path.iterdir()) == []


def test_nobody_sees_a_folder_before_it_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "thing"
    with manifest.building(place, {}) as folder:
        (folder / "a").write_bytes(b"x")
        assert not place.exists()
        assert folder.parent == place.parent  # the same file system: the rename is one step
        assert folder.name.startswith(".")
    assert (place / "a").read_bytes() == b"x"
    assert not folder.exists()


def test_what_is_there_stays(folder: Path) -> None:
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.rglob("*")}
    with manifest.building(folder, {"other": True}) as again:
        (again / "other").write_bytes(b"x")
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.rglob("*")} == before
    assert [p.name for p in folder.parent.iterdir()] == ["thing"]


def test_of_two_builders_the_faster_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, rename = tmp_path / "thing", Path.rename

    def late(path: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        sealed(place)  # between the look and the rename
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    sealed(place)
    assert manifest.verify(place)["n"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["thing"]


# Single files


def test_write_atomically_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    for data in (b"old", b"", b"new" * 10_000):
        manifest.write_atomically(path, data)
        assert path.read_bytes() == data
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert [p.name for p in path.parent.iterdir()] == ["file.json"]


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("existed", [True, False])
def test_an_error_while_writing_leaves_the_old_file(
    existed: bool, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.json"
    if existed:
        manifest.write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if step == "fsync" else Path, step, fail)
    with pytest.raises(OSError, match="No space left"):
        manifest.write_atomically(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == (["file.json"] if existed else [])
    assert not existed or path.read_bytes() == b"old"


def test_the_bytes_are_on_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, steps = tmp_path / "file.json", []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def renamed(source: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    manifest.write_atomically(path, b"new")
    assert steps == ["file", "rename", "folder"]


# Keys


def test_a_content_key_is_16_hexadecimal_digits_of_the_content() -> None:
    assert manifest.content_key() == manifest.digest(b"[%d]" % manifest.FORMAT)[:16]
    assert manifest.content_key({"a": 1, "b": [2]}) == manifest.content_key({"b": [2], "a": 1})
    others = [(), ({},), (1,), ("1",), (1, 2), ([1, 2],), ([2, 1],), (None,), (True,), (1.5,), ({"a": 1},)]
    others += [({"a": None},), ({"a": {"b": 1}},), ({"b": {"a": 1}},), ("é",), ("e\u0301",)]
    keys = [manifest.content_key(*parts) for parts in others]
    assert len(set(keys)) == len(others)
    assert all(len(key) == 16 and set(key) <= set("0123456789abcdef") for key in keys)


def test_a_content_key_is_the_same_in_every_process() -> None:
    parts = '{"b": 1, "a": [1.5, None, "é"]}, datetime(2024, 1, 1, tzinfo=UTC), Path("x")'
    code = (
        "from datetime import UTC, datetime\nfrom pathlib import Path\nfrom profiles import manifest\n"
        f"print(manifest.content_key({parts}))"
    )
    expected = manifest.content_key(
        {"a": [1.5, None, "é"], "b": 1}, datetime(2024, 1, 1, tzinfo=UTC), Path("x")
    )
    for seed in ("0", "1"):
        found = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert found.stdout.strip() == expected
