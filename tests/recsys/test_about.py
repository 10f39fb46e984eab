"""What is said of each recommender comes from the recommender, and says enough to choose by."""

import pytest

from profiles.schema import ContractError
from recsys.about import about, everyone
from recsys.models import RECOMMENDERS
from recsys.recommender import COSTS, NEEDS


def test_everyone_is_there_the_cheapest_first() -> None:
    found = everyone()
    assert {each.name for each in found} == set(RECOMMENDERS)
    costs = [list(COSTS.values()).index(each.cost) for each in found]
    assert costs == sorted(costs)
    assert {each.needs for each in found} == set(NEEDS.values())
    assert {each.name for each in found if each.update != "a fit, exactly"} >= {"als", "bpr", "sasrec"}
    assert about("ease").update == "a fit, exactly"


@pytest.mark.parametrize("name", sorted(RECOMMENDERS))
def test_each_says_what_it_is_what_it_scores_and_what_its_settings_mean(name: str) -> None:
    told = about(name)
    assert ": " in told.title
    assert "score" in told.details.split("\n")[0]
    assert {"repeats"} <= set(told.settings)
    for setting, said in told.settings.items():
        assert said["meaning"], setting


def test_a_name_nobody_has() -> None:
    with pytest.raises(ContractError, match="no recommender is called 'eas'; known are als, "):
        about("eas")
