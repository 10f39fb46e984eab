"""Settings put into an attune.toml: the keys asked for change, every other byte stays."""

import tomllib

import pytest

from profiles.schema import ContractError
from serving.paste import table, with_source, written

TEXT = """\
# my shop
events = [{ path = "e.csv" }]

[recommenders.ease]   # the old friend
# chosen by hand
l2 = 200        # was 500
user_power = 0.5

# about the others
[recommenders.recent]
type = "popularity"
half_life_days = 14.0
[evaluation]
ks = [5, 10]
"""


def test_keys_change_in_place_and_new_ones_join_their_table():
    after = written(TEXT, ("recommenders", "ease"), {"l2": 31.5, "neighbours": 80})
    assert after == TEXT.replace("l2 = 200 ", "l2 = 31.5 ").replace(
        "user_power = 0.5\n", "user_power = 0.5\nneighbours = 80\n"
    )


def test_what_is_none_is_taken_out():
    after = written(TEXT, ("recommenders", "recent"), {"half_life_days": None, "window_days": 7.0})
    assert after == TEXT.replace("half_life_days = 14.0", "window_days = 7.0")


def test_a_new_source_gets_a_table_at_the_end():
    after = with_source(TEXT, "als", {"factors": 32, "repeats": "log"}, {})
    assert after == TEXT + '\n[recommenders.als]\nfactors = 32\nrepeats = "log"\n'


def test_where_no_source_is_named_the_defaults_are_written_too():
    bare = 'events = [{ path = "e.csv" }]  # all\n'
    after = with_source(bare, "ease", {"l2": 9.0}, {"recent": {"type": "popularity"}, "ease": {}})
    assert after.startswith(bare)
    assert tomllib.loads(after)["recommenders"] == {"recent": {"type": "popularity"}, "ease": {"l2": 9.0}}


@pytest.mark.parametrize(
    "text",
    [
        "[recommenders]\nease = { l2 = 3 }\n",
        "recommenders.ease.l2 = 3\n",
        '["recommenders".ease]\nl2 = """3"""\n',
    ],
)
def test_what_cannot_be_edited_line_by_line_is_refused(text):
    with pytest.raises(
        ContractError, match=r"not hold the settings in a table of its own, as \[recommenders.ease\]"
    ):
        with_source(text, "ease", {"l2": 9.0}, {})


def test_a_table_reads_back():
    settings = {"a": 1e-05, "b": True, "c": 'x"ü', "d": 3, "e": None}
    found = tomllib.loads(table(("recommenders", "s"), settings))["recommenders"]["s"]
    assert found == {name: value for name, value in settings.items() if value is not None}


def test_a_table_of_its_own_and_what_stands_before_all_tables():
    assert written(TEXT, ("evaluation",), {"quantile": 0.8}) == TEXT + "quantile = 0.8\n"
    assert written(TEXT, ("finetune",), {"epochs": 2}) == TEXT + "\n[finetune]\nepochs = 2\n"
    text = 'method = "tfidf"  # light\n\n# how much\npenalty = 0.1\n\n[encoder]\nmodel = "m"\n'
    after = written(text, (), {"penalty": 0.02, "grams": "words"})
    assert after == text.replace("penalty = 0.1\n", 'penalty = 0.02\ngrams = "words"\n')
    with pytest.raises(ContractError, match="in lines of their own: paste them"):
        written('"penalty" = 0.1\n', (), {"penalty": 0.02})


def test_settings_inside_others_go_where_they_stand():
    new = {"penalty": 0.02, "augment.copies": 2, "augment.swap": 0.3}
    flat = "penalty = 0.1\naugment.copies = 1  # few\n"
    assert written(flat, (), new) == "penalty = 0.02\naugment.copies = 2  # few\naugment.swap = 0.3\n"
    own = "penalty = 0.1\n\n[augment]\ncopies = 1  # few\n"
    assert written(own, (), new) == "penalty = 0.02\n\n[augment]\ncopies = 2  # few\nswap = 0.3\n"
    deep = "[finetune]\nepochs = 2\n\n[finetune.augment]\ncopies = 1\n"
    assert written(deep, ("finetune",), {"augment.copies": 3}) == deep.replace("1", "3")
    with pytest.raises(ContractError, match="in lines of their own: paste them"):
        written("augment = { copies = 1 }\n", (), {"augment.copies": 2})
