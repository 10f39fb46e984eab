"""Open Bandit Pipeline's estimators: run by its own interpreter, with the work as JSON."""

import json
import sys
from typing import Any

import numpy as np
from obp.ope import (
    DoublyRobust,
    SelfNormalizedInverseProbabilityWeighting,
    SlateIndependentIPS,
    SlateRewardInteractionIPS,
    SlateStandardIPS,
)


def estimates(log: str) -> dict[str, Any]:
    """Estimate from a file of arrays: action, reward, propensity (answers, places), target with items too."""
    arrays = np.load(log)
    action, reward, target = arrays["action"], arrays["reward"], arrays["target"]
    shown = np.take_along_axis(target, action[:, :, None], axis=2)[:, :, 0]
    chances, told = arrays["propensity"].cumprod(axis=1), shown.cumprod(axis=1)
    answer, place = (index.ravel() for index in np.indices(action.shape))
    of = {"slate_id": answer, "position": place, "reward": reward.ravel()}
    places = action.shape[1]
    last = [np.repeat(x[:, -1], x.shape[1]) for x in (chances, told)]
    found = {
        "ips": SlateIndependentIPS(len_list=places).estimate_policy_value(
            **of,
            pscore_item_position=arrays["propensity"].ravel(),
            evaluation_policy_pscore_item_position=shown.ravel(),
        ),
        "snips": sum(
            SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(
                reward=reward[:, k],
                action=action[:, k],
                pscore=arrays["propensity"][:, k],
                action_dist=target[:, k, :, None],
            )
            for k in range(places)
        ),
        "dr": sum(
            DoublyRobust().estimate_policy_value(
                reward=reward[:, k],
                action=action[:, k],
                pscore=arrays["propensity"][:, k],
                action_dist=target[:, k, :, None],
                estimated_rewards_by_reg_model=arrays["expected"][:, k, :, None],
            )
            for k in range(places)
        ),
        "cascade": SlateRewardInteractionIPS(len_list=places).estimate_policy_value(
            **of, pscore_cascade=chances.ravel(), evaluation_policy_pscore_cascade=told.ravel()
        ),
        "list": SlateStandardIPS(len_list=places).estimate_policy_value(
            **of, pscore=last[0], evaluation_policy_pscore=last[1]
        ),
    }
    return {name: float(value) for name, value in found.items()}


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps({"estimates": estimates}[given.pop("work")](**given)))
