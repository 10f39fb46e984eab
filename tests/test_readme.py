"""What the README tells people to type works, as it stands there."""

import json
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
SKIPPED = ("make", "git", "cd")
CUSTOMERS, PRODUCTS = 24, 18


class Block(NamedTuple):
    mark: str  # "test: quick start", "file: attune.toml", or nothing
    language: str
    text: str


def blocks() -> list[Block]:
    """Return the fenced blocks of the README, each with the comment directly above it."""
    text = (ROOT / "README.md").read_text("utf-8")
    found = re.finditer(r"(?:<!-- (.+?) -->\n)?^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(match[1] or "", match[2], match[3]) for match in found]


def lines(block: Block) -> list[list[str]]:
    joined = block.text.replace("\\\n", " ")
    words = [shlex.split(line, comments=True) for line in joined.splitlines()]
    return [w for w in words if w and w[0] not in SKIPPED]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the README's files, and the shop's exports that its configuration speaks of."""
    for block in blocks():
        if block.mark.startswith("file: "):
            (tmp_path / block.mark.removeprefix("file: ")).write_text(block.text, "utf-8")
    if not (tmp_path / "orders.csv").exists():
        orders = [
            f"c{c},p{(c * 5 + n * (1 + c % 3)) % PRODUCTS},2026-{1 + n // 4:02}-{1 + (n * 7 + c) % 28:02}"
            for n in range(16)
            for c in range(CUSTOMERS)
        ]
        (tmp_path / "orders.csv").write_text("customer,sku,bought_at\n" + "\n".join(orders) + "\n")
    if not (tmp_path / "products.csv").exists():
        things = (("lamp", "light"), ("chair", "furniture"), ("kettle", "kitchen"))
        products = [
            f"p{n},{thing} {n},A {thing} for every day.,{thing}|{of}"
            for n in range(PRODUCTS)
            for thing, of in [things[n % 3]]
        ]
        (tmp_path / "products.csv").write_text("sku,name,description,category\n" + "\n".join(products) + "\n")
    return tmp_path


def process(words: list[str]) -> list[str]:
    """Run `attune` and `python` by this interpreter."""
    rest = words[1:]
    if words[0] in ("attune", ".venv/bin/attune"):
        return [sys.executable, "-m", "serving.cli", *rest]
    assert words[0] in ("python", ".venv/bin/python"), f"the README tells people to type {words[0]!r}"
    return [sys.executable, *rest]


def serve(words: list[str], folder: Path) -> None:
    """Start a server on a free port, ask it what the README asks, and stop it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if "--port" in words:
        words = [*words[: words.index("--port")], *words[words.index("--port") + 2 :]]
    server = subprocess.Popen(
        [*process(words), "--port", str(port)], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    body = json.dumps({"user_id": "c7", "explain": "reasons"}).encode()
    ask = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/recommendations", body, {"Content-Type": "application/json"}
    )
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(ask, timeout=30) as answer:
                    assert json.load(answer)["items"]
                    return
            except urllib.error.URLError:
                assert server.poll() is None, server.stderr.read() if server.stderr else ""
                time.sleep(0.1)
        pytest.fail("the server does not answer")
    finally:
        server.terminate()
        server.communicate(timeout=30)


def test_there_is_a_quick_start_to_run():
    marks = [block.mark for block in blocks()]
    assert "test: quick start" in marks
    for block in blocks():
        if block.mark.startswith(("test: ", "file: ")):
            assert block.text.strip()
        if block.mark == "test: quick start":
            assert block.language == "bash"
            assert lines(block)


def test_the_quick_start_works_as_it_stands_there(folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for block in blocks():
        if not block.mark.startswith("test: "):
            continue
        for words in lines(block):
            if words[:2] == ["attune", "serve"]:
                serve(words, folder)
                continue
            done = subprocess.run(
                process(words), cwd=folder, capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr}"
            assert done.stdout
    for block in blocks():
        if block.language == "python":
            done = subprocess.run(
                [sys.executable, "-c", block.text],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, f"{block.text}\n{done.stderr}"


def test_files_and_folders_the_readme_names_are_there():
    text = (ROOT / "README.md").read_text("utf-8")
    for name in re.findall(r"`((?:profiles|recsys|nlp|serving|examples|tests)/[\w./-]*)`", text):
        assert (ROOT / name).exists(), name
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (ROOT / target).exists(), target


def test_every_command_the_readme_names_exists():
    from typer.main import get_command

    from serving.cli import app

    known = set(get_command(app).commands)
    text = (ROOT / "README.md").read_text("utf-8")
    named = set(re.findall(r"(?:^|`)(?:\.venv/bin/)?attune ([a-z]+)", text, re.MULTILINE))
    assert named
    assert named <= known
