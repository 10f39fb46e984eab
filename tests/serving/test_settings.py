"""attune.toml: every mistake is told with file, line and what would be right."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from profiles.schema import ContractError
from profiles.sources import SourceConfig
from recsys.models import RECOMMENDERS
from serving.places import places
from serving.settings import DEFAULT_RECOMMENDERS, Settings, load
from serving.template import TEMPLATE
from serving.workspace import Workspace

EVENTS = '[[events]]\npath = "log.csv"\n'


@pytest.fixture
def problems(tmp_path: Path):
    """`problems(text)` loads a configuration and returns its lines, each without the file's path."""

    def lines(text: str) -> list[str]:
        path = tmp_path / "attune.toml"
        path.write_text(text)
        with pytest.raises(ContractError) as error:
            load(path)
        found = str(error.value).splitlines()
        assert all(line.startswith(f"{path}") for line in found), found
        return [line.removeprefix(f"{path}, ").removeprefix(f"{path}: ") for line in found]

    return lines


# What is written (below `[[events]]` and its path, lines 1 and 2, where it begins with +), and what is said.
MISTAKES = [
    # unknown keys
    (
        'zebra = 1\n[[events]]\npath = "a.csv"\n',
        "line 1: zebra: unknown key; known are dataset, events, items,",
    ),
    ("+[evaluaton]\n", "line 3: evaluaton: unknown key; did you mean 'evaluation'?"),
    ("+[recommend]\n\nkk = 3\n", "line 5: recommend.kk: unknown key; did you mean 'k'?"),
    ('+formt = "csv"\n', "line 3: events.formt: unknown key; did you mean 'format'?"),
    (
        '+[[events]]\nname = "b"\npath = "b"\nseparater = ";"\n',
        "line 6: events.separater: unknown key; did you mean 'separator'?",
    ),
    ('+[[items]]\npath = "i"\natributes = []\n', "line 5: items.atributes: unknown key; did you mean 'att"),
    ("+blend = { wieghts = 1 }\n", "line 3: events.blend: unknown key"),
    (
        'blend = { wieghts = 1 }\n[[events]]\npath = "a"\n',
        "line 1: blend.wieghts: unknown key; did you mean 'weights'?",
    ),
    (
        'events = [\n  { path = "a.csv" },\n  { path = "b", frmat = "csv" },\n]\n',
        "line 3: events.frmat: unknown key; did you mean 'format'?",
    ),
    (
        '+columns = { user_id = { column = "x", splt = "|" } }\n',
        "line 3: events.columns.user_id.splt: unknown key; did you mean 'split'?",
    ),
    (
        '+[events.columns.user_id]\ncolumn = "x"\nsplt = "|"\n',
        "line 5: events.columns.user_id.splt: unknown key; did you mean 'split'?",
    ),
    (
        "+[recommenders.popularity]\n[recommenders.ease]\nl2 = 1\nl3 = 1\n",
        "line 6: recommenders.ease.l3: unknown key; known are",
    ),
    ("+[serve]\nhots = 'x'\n", "line 4: serve.hots: unknown key; did you mean 'host'?"),
    # unknown recommenders
    (
        "+[recommenders.popularity]\n[recommenders.eas]\n",
        "line 4: no recommender is called 'eas'; did you mean 'ease'?",
    ),
    (
        '+[recommenders.popularity]\n[recommenders.x]\ntype = "itemknn"\n',
        "line 5: no recommender is called 'itemknn'; did you mean 'item_knn'?",
    ),
    (
        "+[recommenders.popularity]\n[recommenders.x]\ntype = 3\n",
        "line 5: no recommender is called 3; known are als,",
    ),
    # out of range
    ("+[recommend]\nk = 0\n", "line 4: recommend.k: input should be greater than 0, not 0"),
    ("+[evaluation]\nquantile = 1.5\n", "line 4: evaluation.quantile: input should be less than 1, not 1.5"),
    (
        "+[evaluation]\nks = [\n  5,\n  -1,\n]\n",
        "line 6: evaluation.ks: input should be greater than 0, not -1",
    ),
    ("+[evaluation]\nks = []\n", "line 4: evaluation.ks: list should have at least 1 item"),
    (
        '+[evaluation]\nsplit = "tempral"\n',
        "line 4: evaluation.split: input should be 'temporal', 'rolling', 'leave_last_out', 'ratio', "
        "'random', 'k_fold', 'strong', 'cold_users', 'cold_items' or 'given', not 'tempral'",
    ),
    (
        '+[interactions]\nweights = { VIEW = 1, "COMMENT CREATED" = -4 }\n',
        "line 4: interactions.weights.COMMENT CREATED: input should be greater than or equal to 0, not -4",
    ),
    (
        "+[interactions.weights]\nVIEW = 1\n'COMMENT CREATED' = -4\n",
        "line 5: interactions.weights.COMMENT CREATED: input should be greater than or equal to 0, not -4",
    ),
    (
        "+[recommenders.popularity]\n[recommenders.ease]\nl2 = -1\n",
        "line 5: recommenders.ease.l2: input should be greater than 0, not -1",
    ),
    (
        "+[blend]\nweights = { als = -1 }\n",
        "line 4: blend.weights.als: input should be greater than or equal to 0, not -1",
    ),
    ("+[serve]\nport = 70000\n", "line 4: serve.port: input should be less than or equal to 65535"),
    # wrong type
    ('+[recommend]\nk = "ten"\n', "line 4: recommend.k: input should be a valid integer"),
    ('+[text]\nenabled = "maybe"\n', "line 4: text.enabled: input should be a valid boolean"),
    ('+[blend]\nweights = "fitt"\n', "line 4: blend.weights: input should be 'fit', not 'fitt'; or"),
    ("+[events.columns]\nuser_id = 5\n", "line 4: events.columns.user_id: give a source column's name"),
    ("+[recommenders]\npopularity = 3\n", "line 4: [recommenders.popularity] is a table of settings, not 3"),
    (
        'recommenders = 3\n[[events]]\npath = "a"\n',
        "line 1: recommenders: input should be a valid table, not 3",
    ),
    ('[events]\npath = "a.csv"\n', "line 1: events: each source is a table of its own; write [[events]]"),
    ('[[events]]\npath = ["a", 3]\n', "line 2: events.path: input should be a valid string, not 3"),
    # missing
    ("[text]\nenabled = true\n", "line 1: events: missing (where behaviour comes from)"),
    (
        "\n[[events]]\nname = 'a'\n",
        "line 2: events: give either path, for files, or url and query, for a database",
    ),
    ("events = []\n", "line 1: events: list should have at least 1 item"),
    # no TOML
    ("+[recommend\nk = 3\n", "not valid TOML: Expected ']' at the end of a table declaration (at line 3,"),
    ('+path = "b"\n', "not valid TOML: Cannot overwrite a value (at line 3,"),
    # names that point nowhere, or to two things
    (
        '+[blend]\nfallback = "populartiy"\n',
        "line 4: fallback = 'populartiy' is no source; did you mean 'popularity'?",
    ),
    ("+[recommenders.als]\n", "line 1: fallback = 'popularity' is no source; known are als"),
    (
        "+[blend.weights]\nals = 1\nalz = 1\n",
        "line 5: weight for 'alz', which is no source; did you mean 'als'?",
    ),
    ('+[[events]]\npath = "older/log.csv"\n', "line 3: [[events]] 'log' is there twice;"),
    ('+[[users]]\npath = "u"\n[[users]]\nname = "u"\npath = "w"\n', "line 5: [[users]] 'u' is there twice;"),
    (
        '+[recommenders.popularity]\n[recommenders."../../x"]\ntype = "als"\n',
        "line 4: a source cannot be called '../../x': its name becomes a folder's; use small letters",
    ),
    (
        '+[recommenders.popularity]\n[recommenders.Mine]\ntype = "als"\n',
        "line 4: a source cannot be called 'Mine'",
    ),
    (
        '+[recommenders.popularity]\n[recommenders.blend]\ntype = "als"\n',
        "line 4: a source cannot be called 'blend'",
    ),
    (
        '+[recommenders.popularity]\n[recommenders.words]\ntype = "als"\n',
        "line 4: a source cannot be called 'words'",
    ),
    (
        '+[evaluation]\nreference = "known/als.parquet"\n',
        "line 4: reference = 'known/als.parquet' would be shown as 'als', which is a source; rename the file",
    ),
]


@pytest.mark.parametrize(("text", "told"), MISTAKES, ids=[str(n) for n in range(len(MISTAKES))])
def test_a_mistake_is_one_line_that_says_where_and_what_would_be_right(problems, text, told):
    lines = problems(EVENTS + text[1:] if text.startswith("+") else text)
    assert len(lines) == 1, lines
    assert lines[0].startswith(told)


def test_several_mistakes_are_told_at_once_in_the_order_of_the_file(problems):
    text = (
        EVENTS
        + "[recommend]\nk = 0\nkk = 1\n[recommenders.popularity]\nhalf_life_days = 0\n[recommenders.eas]\n"
        + "[evaluation]\nquantile = 2\n"
    )
    lines = problems(text)
    assert [int(re.match(r"line (\d+)", line)[1]) for line in lines] == [4, 5, 7, 8, 10]


def test_mistakes_of_both_kinds_of_place_are_told_in_one_source(problems):
    lines = problems('events = [{ path = "a" },\n          { pth = "b" }]\n')
    assert lines[0].startswith("line 2: events.pth: unknown key; did you mean 'path'?")


def test_a_missing_file_is_told_with_the_command_that_writes_one(tmp_path):
    with pytest.raises(ContractError, match=r"nowhere\.toml: no such file; `attune init` writes one"):
        load(tmp_path / "nowhere.toml")


def test_a_file_that_is_no_text_is_told(tmp_path):
    (tmp_path / "attune.toml").write_bytes(b"\xff\xfe[events]")
    with pytest.raises(ContractError, match=r"attune\.toml: cannot be read as UTF-8 text"):
        load(tmp_path / "attune.toml")
    with pytest.raises(ContractError, match="cannot be read"):
        load(tmp_path)


def test_two_kinds_of_sources_may_share_a_name(tmp_path):
    (tmp_path / "attune.toml").write_text(EVENTS + '[[items]]\npath = "other/log.csv"\n')
    assert load(tmp_path / "attune.toml").items[0].label == "log"


def test_an_unset_variable_is_named_when_the_source_is_read(tmp_path, monkeypatch):
    from profiles.sources import locate

    monkeypatch.delenv("NO_SUCH_FOLDER", raising=False)
    (tmp_path / "attune.toml").write_text('[[events]]\npath = "${NO_SUCH_FOLDER}/log.csv"\n')
    settings = load(tmp_path / "attune.toml")
    with pytest.raises(ContractError, match=r"names \$\{NO_SUCH_FOLDER\}, which is not set; set it"):
        locate(settings.events[0], tmp_path)


# The environment


def test_the_environment_overrides_the_file(tmp_path, monkeypatch):
    path = tmp_path / "attune.toml"
    path.write_text(EVENTS + "[serve]\nport = 8100\n")
    assert load(path).serve.port == 8100
    monkeypatch.setenv("ATTUNE_SERVE_PORT", "9100")
    assert load(path).serve.port == 9100
    path.write_text(EVENTS)
    assert load(path).serve.port == 9100
    assert load(path).serve.host == "127.0.0.1"


def test_a_mistake_in_the_environment_names_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTUNE_SERVE_PORT", "http")
    (tmp_path / "attune.toml").write_text(EVENTS)
    told = "environment variable ATTUNE_SERVE_PORT: input should be a valid integer.*, not 'http'"
    with pytest.raises(ContractError, match=told):
        load(tmp_path / "attune.toml")


# What is kept


def test_settings_survive_the_workspace(tmp_path):
    path = tmp_path / "attune.toml"
    path.write_text(
        EVENTS
        + "[events.columns]\nevent_type = { constant = 'view' }\ntext = { expression = 'a' }\n"
        + "[recommenders.popularity]\n[recommenders.mine]\ntype = 'ease'\nl2 = 7\n"
        + "[blend]\nweights = { mine = 2 }\n"
    )
    opened = Workspace(tmp_path / "w", path)
    opened.remember()
    again = Workspace(tmp_path / "w")
    assert again.settings == opened.settings
    assert again.root == tmp_path
    assert again.settings.sources()["mine"].config.l2 == 7


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"settings": {}, "root": "/"}', '{"settings": 3, "root": "/"}']
)
def test_settings_that_were_damaged_are_told_with_the_way_out(tmp_path, content):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ContractError, match=r"settings\.json: not readable: .*; give --config attune\.toml"):
        Workspace(tmp_path)


# The template


def test_the_template_loads(tmp_path):
    (tmp_path / "attune.toml").write_text(TEMPLATE)
    settings = load(tmp_path / "attune.toml")
    assert settings.events[0].paths == ("events.csv",)
    assert {n: {"type": n, **t} for n, t in settings.recommenders.items()} == {
        n: {"type": n, **t} for n, t in DEFAULT_RECOMMENDERS.items()
    }


def test_the_template_loads_with_every_comment_taken_away(tmp_path):
    text = re.sub(r"^# (?=\[|[a-z_]+ = )", "", TEMPLATE, flags=re.MULTILINE)
    (tmp_path / "attune.toml").write_text(text)
    settings = load(tmp_path / "attune.toml")
    assert settings.items
    assert settings.users
    assert settings.text.enabled


def commented() -> list[tuple[str, str, str]]:
    """Return (table, key, value) of every default the template shows as a comment."""
    table, found = "", []
    for line in TEMPLATE.splitlines():
        if header := re.match(r"(?:# )?\[+([a-z_.]+)\]+", line):
            table = header[1]
        elif pair := re.match(r"# ([a-z_]+) = (.+?)(?:\s{2,}#.*|\s#.*)?$", line):
            found.append((table, pair[1], pair[2]))
    return found


# Shown to be changed: what they say is an example, not the default.
EXAMPLES = {
    ("interactions", "weights"),
    ("interactions", "minimum_value"),
    ("items", "path"),
    ("items", "attributes"),
    ("users", "path"),
    ("vectors", "path"),
    ("labels", "name"),
    ("labels", "classifier"),
    ("events", "format"),
    ("tune", "minutes"),
    ("tune", "memory_gb"),
    ("evaluation", "slices"),
}


def test_every_default_in_the_template_is_the_declared_one():
    compared = 0
    for table, key, value in commented():
        if ".columns" in table or (table, key) in EXAMPLES:
            continue
        model: type[BaseModel] = SourceConfig if table in ("events", "items", "users") else Settings
        if model is Settings:
            model = type(Settings.model_fields[table].get_default(call_default_factory=True))
        declared = model.model_fields[key].get_default(call_default_factory=True)
        assert tomllib.loads(f"x = {value}")["x"] == declared, f"[{table}] {key}"
        compared += 1
    assert compared >= 10


def test_every_recommender_has_documented_settings():
    for name, kind in RECOMMENDERS.items():
        for key, field in kind.config_class.model_fields.items():
            assert field.description, f"{name}.{key}"
    for name, field in Settings.model_fields.items():
        kind = type(field.get_default(call_default_factory=True))
        if issubclass(kind, BaseModel):
            assert all(inner.description for inner in kind.model_fields.values()), name


# Where things stand


def test_places_of_everything_toml_can_hold():
    text = (
        'a = 1 # = [x]\n"b c".d = 2\n[t]\ns = """\nx = 1\n[no]\n"""\ne = [1,\n  [2, 3],\n]\n'
        "[[r]]\nk = 1.5\n[r.in]\nm = 2024-01-01T00:00:00Z\n"
        "[[r]]\nk = { u = { v = 1 }, w = '#' }\n[[r.deep]]\nz = 1\n"
    )
    raw = tomllib.loads(text)
    found = places(text)
    assert found["a",] == 1
    assert found["b c", "d"] == 2
    assert found["t", "s"] == 4
    assert ("no",) not in found
    assert (found["t", "e"], found["t", "e", 0], found["t", "e", 1, 0]) == (8, 8, 9)
    assert (found["r", 0], found["r", 0, "in", "m"], found["r", 1]) == (11, 14, 15)
    assert found["r", 1, "k", "u", "v"] == found["r", 1, "k", "w"] == 16
    assert found["r", 1, "deep", 0, "z"] == 18

    def walk(value, place=()):
        inner = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for part, child in inner:
            assert (*place, part) in found
            walk(child, (*place, part))

    walk(raw)


def test_settings_are_plain_json():
    settings = Settings.model_validate({"events": [{"path": "a"}]})
    assert json.loads(settings.model_dump_json())["recommend"]["k"] == 20
