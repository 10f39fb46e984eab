"""Bad input, from the file to the answer: a line that says what to mend, or a result, never a traceback."""

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from serving import cli
from serving.pipeline import Pipeline
from serving.workspace import Workspace

HEADER = "event_id,user_id,item_id,event_type,timestamp,value"
SETTINGS = """\
events = [{ name = "log", path = "log.csv" }]
[text]
enabled = false
[recommenders.popularity]
[recommenders.item_knn]
[recommenders.als]
factors = 4
"""


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Attune = Callable[..., Ended]


@pytest.fixture
def attune(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Attune:
    """`attune("run")` runs a command of a new folder that holds attune.toml; a traceback is a failure."""
    monkeypatch.chdir(tmp_path)
    Path("attune.toml").write_text(SETTINGS)

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["attune", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert isinstance(end.value.code, int | None)
        ended = Ended(end.value.code or 0, *capsys.readouterr())
        assert "Traceback" not in ended.out + ended.err
        return ended

    return run


def good(users: int = 12, items: int = 23, each: int = 14) -> list[str]:
    """Rows of a log in which everybody comes back for something new that others know."""
    return [
        f"e{n:02}{u:02},u{u},i{(u * 7 + n) % items},view,2024-0{1 + n // 20}-{n % 20 + 1:02}T{u:02}:00,1"
        for n in range(each)
        for u in range(users)
    ]


def log(*rows: str, name: str = "log.csv") -> None:
    Path(name).write_text("\n".join([HEADER, *rows]) + "\n")


def set_aside() -> list[tuple[int, str]]:
    return Workspace("workspace").read("rejected").select("row", "problem").rows()


def configure(**replaced: str) -> None:
    text = SETTINGS
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    Path("attune.toml").write_text(text)


# Rows


BAD_ROWS = {
    "x1,,i1,view,2024-01-05,1": "an event with no user",
    "x2,u1,i1,,2024-01-05,1": "an event with no event_type",
    "x3,u1,i1,view,,1": "no time",
    "x4,u1,i1,view,1970-01-01,1": "time 1970-01-01 lies before 1990",
    "x5,u1,i1,view,2999-01-01,1": "time 2999-01-01 lies in the future",
    "x6,u1,i1,view,yesterday,1": "unreadable time 'yesterday'",
    "x7,u1,i1,view,2024-01-05,NaN": "value 'NaN' is not a number",
    "x8,u1,i1,view,2024-01-05,many": "value 'many' is not a number",
    "x9,u1,i1,view,2024-01-05,inf": "value 'inf' is not a number",
    "e0000,u7,i7,view,2024-01-05,1": "event_id 'e0000' is there already with other content",
}


def test_rows_that_cannot_be_used_are_counted_and_named(attune):
    rows = good()
    log(*rows, *BAD_ROWS)
    ended = attune("run")
    assert ended.code == 0, ended.err
    found = dict(set_aside())
    assert len(found) == len(BAD_ROWS)
    for number, problem in enumerate(BAD_ROWS.values(), len(rows) + 1):
        assert problem in found[number]
        if "value" in problem and "NaN" not in problem:
            continue  # one line for all that break the same promise
        (line,) = [line for line in ended.err.splitlines() if problem in line]
        assert f"log.csv, row {number}: " in line
        assert line.endswith("; left out")
    assert "value 'NaN' is not a number (2 more like it); left out" in ended.err
    assert f"{len(rows):,} new events" in ended.err
    assert "10 rows set aside in rejected.parquet" in ended.err
    assert Workspace("workspace").snapshot.about["counts"]["events"] == len(rows)


def test_many_rows_of_one_kind_are_one_line(attune):
    log(*good(), *(f"y{n},,i1,view,2024-01-05,1" for n in range(500)))
    ended = attune("run")
    assert ended.code == 0
    assert ended.err.count("an event with no user") == 1
    assert "row 169: an event with no user (499 more like it); left out" in ended.err
    assert len(set_aside()) == 500


def test_the_same_row_twice_is_kept_once_and_told(attune):
    log(*good(), good()[0])
    ended = attune("run")
    assert ended.code == 0
    assert "rows that repeat an event_id and its content: 1; kept once" in ended.err
    assert set_aside() == []


@pytest.mark.parametrize("bad", list(BAD_ROWS)[:-1])
def test_a_log_of_nothing_but_bad_rows_ends_with_a_line(attune, bad):
    log(bad)
    ended = attune("run")
    assert ended.code == 2
    assert "has_events: no events; look at the rejected rows" in ended.err
    assert len(set_aside()) == 1


# Files


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("log.parquet", b"PAR1 this is no Parquet file PAR1", "log.parquet"),
        ("log.parquet", b"user_id,item_id\n", "log.parquet"),
        ("log.parquet", b"", "log.parquet is empty"),
        ("log.csv", b"", "log.csv is empty"),
        ("log.csv", HEADER.encode() + b"\n", "no rows"),
        ("log.csv", b"PAR1\x00\x01", "log.csv is a Parquet file, not csv"),
        (
            "log.csv",
            b"user_id,item_id,event_type,timestamp\nu1,\xff\xfe,view,2024-01-01\n",
            "is not UTF-8: byte 0xff",
        ),
        ("log.csv", HEADER.encode() + b"\na,b,c\n", "row 1 (line 2): 3 fields where the header has 6"),
        ("log.csv", b"user,item\na,b\n", "no column is mapped to user_id"),
        ("log.jsonl", b'{"user_id": 1}\n[1, 2]\n', "log.jsonl, line 2 is an array"),
        ("log.xlsx", b"PK\x03\x04", "does not tell its format; give format ="),
    ],
)
def test_a_file_that_cannot_be_read_is_named(attune, name, content, told):
    Path(name).write_bytes(content)
    configure(**{'path = "log.csv"': f'path = "{name}"'})
    ended = attune("run")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("attune: [[events]] 'log': ")
    assert told in ended.err
    assert len(ended.err.splitlines()) == 1


def test_a_file_that_is_not_there_is_named(attune):
    ended = attune("run")
    assert ended.code == 2
    assert ended.err.startswith("attune: ")
    assert re.fullmatch(
        r"attune: \S*attune\.toml, line 1: \[\[events\]\] 'log': there is no file \S*log\.csv\n", ended.err
    )


def test_times_and_bare_order_do_not_mix(attune):
    Path("log.csv").write_text("user_id,item_id,event_type,timestamp\nu,i,view,2024-01-01\n")
    Path("order.csv").write_text("user_id,item_id,event_type,place\nu,i,view,1\n")
    Path("attune.toml").write_text(
        '[[events]]\npath = "log.csv"\n[[events]]\npath = "order.csv"\ncolumns = { order = "place" }\n'
    )
    ended = attune("run")
    assert ended.code == 2
    assert "attune.toml, line 3: this source has an order and the rest of the log has times" in ended.err


def test_a_reference_that_is_none_is_named(attune):
    log(*good())
    for content, told in (
        (b"no parquet", "reference"),
        (None, "reference = 'known.parquet': there is no file"),
    ):
        Path("attune.toml").write_text(SETTINGS + "[evaluation]\nreference = 'known.parquet'\n")
        Path("known.parquet").unlink(missing_ok=True)
        if content:
            Path("known.parquet").write_bytes(content)
        ended = attune("run")
        assert ended.code == 2
        assert told in ended.err
    pl.DataFrame({"user_id": [1], "item_id": ["i1"]}).write_parquet("known.parquet")
    ended = attune("run")
    assert ended.code == 2
    assert "score" in ended.err
    pl.DataFrame({"user_id": [1], "item_id": [2], "score": [0.5]}).write_parquet("known.parquet")
    assert attune("run").code == 0


# Small worlds


def test_one_user_one_item_or_none_of_them_is_refused_with_the_reason(attune):
    for rows, told in (
        (
            [f"{n},u1,i{n},view,2024-01-0{n + 1},1" for n in range(5)],
            "one user: nothing can be learned from others",
        ),
        (
            [f"{n},u{n},i1,view,2024-01-0{n + 1},1" for n in range(5)],
            "one item: there is nothing to choose from",
        ),
        ([f"{n},u{n},,login,2024-01-0{n + 1},1" for n in range(5)], "no event names an item"),
    ):
        shutil.rmtree("workspace", ignore_errors=True)
        log(*rows)
        ended = attune("run")
        assert ended.code == 2
        assert told in ended.err


@pytest.mark.parametrize("split", ["temporal", "rolling", "leave_last_out"])
@pytest.mark.parametrize(
    "rows",
    [
        ["a,u1,i1,view,2024-01-01,1", "b,u2,i2,view,2024-01-02,1"],
        ["a,u1,i1,view,2024-01-01,1", "b,u2,i1,view,2024-01-02,1", "c,u1,i2,view,2024-01-03,1"],
        ["a,u1,i1,view,2024-01-01,1", "b,u2,i2,view,2024-01-01,1", "c,u1,i2,view,2024-01-01,1"],
        [
            *("a,u1,i1,view,2024-01-01,1", "b,u2,i2,view,2024-01-02,1", "c,u1,i2,view,2024-01-03,1"),
            *("d,u2,i1,view,2024-01-04,1", "e,u1,i1,view,2024-01-05,1", "f,u2,i1,view,2024-01-06,1"),
        ],
    ],
)
def test_a_tiny_log_gives_a_result_or_a_line(attune, rows, split):
    log(*rows)
    Path("attune.toml").write_text(
        f'{SETTINGS}[recommenders.content_text]\n[evaluation]\nsplit = "{split}"\n'
    )
    ended = attune("run")
    if ended.code:
        assert ended.code == 2
        assert "evaluat" in ended.err
        assert "too short or too small" in ended.err or "no interactions to split" in ended.err
    for stage in ("train", "recommend"):
        assert attune(stage).code == 0  # what can be told from so little is told
    lists = Workspace("workspace").read("recommendations")
    assert set(lists["user_id"]) == {"u1", "u2"}
    assert attune("show", "user", "u1").code == 0
    assert attune("show", "item", "i1").code == 0


def test_a_test_window_without_truth_is_told(attune):
    rows = [f"{u}{n},u{u},i{n + u},view,2024-01-{n + 1:02},1" for u in range(6) for n in range(9)]
    log(
        *rows, *(f"z{u},new{u},i{u},view,2024-02-{u + 1:02},1" for u in range(9))
    )  # only newcomers at the end
    ended = attune("run")
    assert ended.code == 2
    assert "evaluate: no user has a past before the cut and something new after it" in ended.err


@pytest.mark.parametrize("weights", ["{ view = 0 }", "{ purchase = 1 }", "{ view = 0.0, purchase = 0 }"])
def test_events_that_weigh_nothing_are_told(attune, weights):
    log(*good())
    Path("attune.toml").write_text(f"{SETTINGS}[interactions]\nweights = {weights}\n")
    ended = attune("run")
    assert ended.code == 2
    assert "weigh" in ended.err or "no interactions" in ended.err


def test_a_minimum_value_nobody_reaches_is_told(attune):
    log(*good())
    Path("attune.toml").write_text(f"{SETTINGS}[interactions]\nminimum_value = {{ view = 9 }}\n")
    ended = attune("run")
    assert ended.code == 2
    assert "no interactions" in ended.err


def test_no_source_that_can_be_fitted_is_told(attune):
    log(*good())
    text = (
        SETTINGS.split("[recommenders")[0]
        + "[recommenders.content_text]\n[blend]\nfallback = 'content_text'\n"
    )
    Path("attune.toml").write_text(text)
    ended = attune("run")
    assert ended.code == 2
    assert "no recommender can be fitted: content_text: " in ended.err


def test_weights_for_none_but_a_source_that_cannot_leave_the_fallback(attune):
    log(*good())
    Path("attune.toml").write_text(
        f"{SETTINGS}[recommenders.content_text]\n[blend]\nweights = {{ content_text = 1 }}\n"
    )
    ended = attune("run")
    assert ended.code == 0, ended.err
    assert set(Workspace("workspace").read("contributions")["source"]) == {"fallback:popularity"}
    assert attune("show", "item", "i1").code == 0


# Ids


ODD = [
    *(
        'it"s',
        "a'b",
        "a/b",
        "../../etc/passwd",
        "..",
        "a\\b",
        "a\nb",
        "a\tb",
        " ",
        "a b ",
        "\u00e9",
        "e\u0301",
    ),
    *(
        "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "[red]x[/red]",
        "[/b]",
        "[link=http://x]",
        "%s {0} ${HOME}",
    ),
    *(
        "x" * 300,
        "\u4f60\u597d",
        "\u202eabc",
        "-1",
        "--help",
        "0",
        "007",
        "null",
        "NaN",
        "nan",
        "None",
        "a,b;c",
        "<b>",
    ),
    *("\x00", "a\x00b", "\x7f", "\x1b[31mred", "\ufeffid", "'; drop table events; --", "*", "a\r\nb"),
]


def test_odd_ids_go_all_the_way(attune):
    n = len(ODD)
    rows = [
        {
            "user_id": ODD[u],
            "item_id": ODD[(u * k * 3 + k * k + u) % n],
            "event_type": ["view", "[/x]", "a/b\n"][k % 3],
            "timestamp": f"2024-01-{k + 1:02}T{u // 2:02}:00:00",
            "session_id": ODD[(u + k) % n],
        }
        for k in range(14)
        for u in range(n)
    ]
    pl.DataFrame(rows).write_parquet("log.parquet")
    items = {"item_id": ODD, "title": ODD[::-1], "brand": ODD, "categories": [[o, o] for o in ODD]}
    pl.DataFrame(items).write_parquet("items.parquet")
    pl.DataFrame({"user_id": ODD, "nick": ODD[::-1]}).write_parquet("users.parquet")
    configure(**{'path = "log.csv"': 'path = "log.parquet"'})
    with Path("attune.toml").open("a") as config:
        config.write(
            '[[items]]\npath = "items.parquet"\n[[users]]\npath = "users.parquet"\nattributes = ["nick"]\n'
        )
    ended = attune("run")
    assert ended.code == 0, ended.err
    assert set_aside() == []
    lists = Workspace("workspace").read("recommendations")
    assert set(lists["user_id"]) == set(ODD)
    assert set(lists["item_id"]) <= set(ODD)
    assert lists["item_id"].n_unique() > n / 2
    for name in ODD:
        if name == "--help" or "\x00" in name:  # no command line can say them
            continue
        ended = attune("show", "user", "--json", "-k", 3, "--", name)
        assert ended.code == 0, (name, ended.err)
        found = json.loads(ended.out)
        assert found["user_id"] == name
        assert found["attributes"]["nick"] == ODD[::-1][ODD.index(name)]
        own = lists.filter(user_id=name).sort("rank")["item_id"].head(3).to_list()
        assert [i["item_id"] for i in found["recommendations"]] == own
        if name.isalnum():
            continue  # nothing in it that a table could stumble over
        shown = attune("show", "user", "-k", 3, "--", name)
        assert shown.code == 0, (name, shown.err)
        assert f"user {name}" in shown.out or not name.isprintable() or len(name) > 60
        shown = attune("show", "item", "-k", 3, "--", name)
        assert shown.code == 0, (name, shown.err)
    assert attune("check").code == 0


# Folders


def test_a_workspace_that_is_a_file_is_told(attune):
    log(*good())
    Path("workspace").write_text("mine")
    for command in ("run", "ingest", "build", "check", "recommend"):
        ended = attune(command, "--config", "attune.toml")
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith("attune: workspace")
        assert len(ended.err.splitlines()) == 1
    assert attune("show", "user", "u1").code == 2
    assert attune("releases", "list").code == 2
    assert attune("doctor").code == 1
    assert Path("workspace").read_text() == "mine"


def test_a_workspace_that_cannot_be_written_is_told(attune, monkeypatch):
    log(*good())
    assert attune("run").code == 0  # with all modules loaded
    me = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.chdir(name)
        log(*good())
        Path("attune.toml").write_text(SETTINGS)
        assert attune("ingest", "--workspace", "mine").code == 0
        for place in (Path(), *Path().rglob("*")):
            place.chmod(0o555 if place.is_dir() else 0o444)
        try:
            os.seteuid(65534 if me == 0 else me)  # no mode stops root
            made, opened = attune("run"), attune("run", "--workspace", "mine")
            shown = attune("releases", "list", "--workspace", "mine")
        finally:
            os.seteuid(me)
            for place in (Path(), *Path().rglob("*")):
                place.chmod(0o755)
            monkeypatch.undo()
    assert made == (2, "", "attune: workspace: Permission denied\n")
    assert opened == (2, "", "attune: mine/.lock: Permission denied\n")
    assert shown.code == 0


# Damage


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything has run; not to be written to."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "attune.toml").write_text(SETTINGS)
    (folder / "log.csv").write_text("\n".join([HEADER, *good()]) + "\n")
    Pipeline(Workspace(folder / "workspace", folder / "attune.toml")).run()
    return folder


@pytest.fixture
def ran(attune: Attune, sound: Path) -> Attune:
    """`attune` in a copy of it."""
    shutil.copytree(sound, Path(), dirs_exist_ok=True)
    Workspace("workspace", "attune.toml").remember()
    return attune


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '"x"', "null", '{"ingest": 3}', '{"build": {}}', "\x00\x01"]
)
def test_a_damaged_state_is_told_with_the_way_out(ran, content):
    Path("workspace/state.json").write_text(content)
    for command in ("run", "train", "recommend"):
        ended = ran(command)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith("attune: workspace/state.json: not readable: ")
        assert ended.err.endswith("; delete it and run again\n")
    Path("workspace/state.json").unlink()
    assert ran("run").code == 0


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"settings": {}, "root": "."}', "\x00\x01"])
def test_damaged_settings_are_told_with_the_way_out(ran, content):
    before = Workspace("workspace").read("recommendations")
    Path("workspace/settings.json").write_text(content)
    for command in (["run"], ["show", "user", "u1"], ["doctor"]):
        ended = ran(*command)
        assert ended.code == (1 if command == ["doctor"] else 2)
        assert "workspace/settings.json: not readable: " in ended.err + ended.out
        assert "give --config attune.toml" in ended.err + ended.out
    assert ran("run", "--config", "attune.toml").code == 0
    assert Workspace("workspace").read("recommendations").equals(before)


@pytest.mark.parametrize("content", ["", "[]", '{"trail": 3}', '{"trail": [3]}', "{}"])
def test_a_damaged_pointer_to_the_release_is_told(ran, content):
    Path("workspace/releases/active.json").write_text(content)
    for command in (["recommend"], ["releases", "list"], ["releases", "rollback"], ["show", "user", "u1"]):
        ended = ran(*command)
        assert ended.code == 2, command
        assert "active.json: not readable" in ended.err
    assert ran("doctor").code == 1


def test_a_damaged_release_is_refused_before_it_is_read(ran):
    name = Workspace("workspace").releases.active()
    for place in Path(f"workspace/releases/{name}").rglob("*.*"):
        content = place.read_bytes()
        place.write_bytes(content[:-3])
        ended = ran("show", "user", "u1")
        assert ended.code == 2, place
        assert ended.err.startswith(f"attune: workspace/releases/{name}")
        place.write_bytes(content)
    assert ran("show", "user", "u1").code == 0


def test_a_missing_snapshot_is_built_again_or_told(ran):
    shutil.rmtree("workspace/snapshots")
    for command in (
        ["train", "--force"],
        ["evaluate", "--force"],
        ["recommend", "--force"],
        ["show", "item", "i1"],
    ):
        ended = ran(*command)
        assert (ended.code, ended.out) == (2, ""), command
        assert "snapshots/" in ended.err
        assert ended.err.endswith(": the snapshot is gone; run `attune build`\n")
    ended = ran("run")
    assert ended.code == 0
    assert ended.err.splitlines()[2].startswith("build: snapshot ")
    assert ended.err.splitlines()[3] == "train: up to date"


def test_a_damaged_store_is_told(ran):
    place = Path("workspace/store/events.db")
    place.write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
    for journal in place.parent.glob("events.db-*"):  # it may hold every page of a small log
        journal.unlink()
    for command in ("build", "check", "run"):
        ended = ran(command)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.splitlines()[-1].startswith("attune: a database of the workspace cannot be used: ")
    assert ran("doctor").code == 1


def test_a_damaged_batch_file_is_told_and_made_again(ran):
    Path("workspace/recommendations.parquet").unlink()
    assert ran("run").err.splitlines()[-2].startswith("recommend: 12 users")
    Path("workspace/evaluation.json").unlink()
    assert "Evaluation" in ran("run").out
