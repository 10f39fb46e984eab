"""Names of the environment in paths and addresses."""

import pytest

from profiles.schema import ContractError
from profiles.sources.variables import expanded, unset


def test_names_are_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "db")
    monkeypatch.setenv("PASSWORD", r"a${HOST}\1$")  # put in as it is, not looked into
    assert expanded("postgresql://u:${PASSWORD}@${HOST}/${HOST}") == r"postgresql://u:a${HOST}\1$@db/db"
    assert unset("${HOST}") == []


@pytest.mark.parametrize("text", ["", "plain", "$HOST", "${}", "{HOST}", "${a b}", "$${", "${HOST"])
def test_what_is_no_name_stays(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "db")
    assert expanded(text) == text


def test_a_name_that_is_not_set_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "db")
    for name in ("ONE", "TWO"):
        monkeypatch.delenv(name, raising=False)
    assert unset("${ONE}/${HOST}/${TWO}") == ["ONE", "TWO"]
    with pytest.raises(ContractError, match=r"\$\{ONE\} names \$\{ONE\}, which is not set in the env"):
        expanded("${HOST}/${ONE}")
    monkeypatch.setenv("ONE", "")
    assert expanded("a${ONE}b") == "ab"
