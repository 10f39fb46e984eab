"""The gradient loop learns, repeats itself bit for bit, resumes after a kill, and says what went wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from profiles.schema import ContractError
from recsys import training, watch
from recsys.optimizing import Group
from recsys.ranks import Ranks
from recsys.training import Task, Trained, TrainingConfig
from recsys.watch import Progress


def regression(noise: float = 0.0, validate=None, dropout: float = 0.1) -> Task:
    """Return a small least squares with dropout and random numbers of its own in the loss."""
    random = np.random.default_rng(0)
    x = random.normal(size=(50, 4)).astype(np.float32)
    y = x @ np.array([1, -2, 3, 0.5], np.float32)
    with training.reproducible(7):
        module = nn.Sequential(nn.Dropout(dropout), nn.Linear(4, 1))

    def loss(rows, random):
        drawn = torch.from_numpy(random.normal(0, noise, (len(rows), 1)).astype(np.float32))
        found = module(torch.from_numpy(x[rows])) + drawn
        return ((found.squeeze(1) - torch.from_numpy(y[rows])) ** 2).mean()

    key = training.fingerprint(x, y)
    return Task(module, training.shuffled(50, 8), loss, key, validate and (lambda: validate(module)))


def weights(task: Task) -> list[np.ndarray]:
    return [value.numpy().copy() for value in task.module.state_dict().values()]


def equal(left: Task, right: Task) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(weights(left), weights(right), strict=True))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "adagrad"])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_it_learns(optimizer, schedule):
    rate = {"adamw": 0.05, "sgd": 0.02, "adagrad": 0.3}[optimizer]
    task = regression(dropout=0.0)
    config = TrainingConfig(optimizer=optimizer, schedule=schedule, learning_rate=rate, epochs=40)
    trained = training.train(task, config)
    assert trained.epochs == trained.best_epoch == len(trained.losses) == 40
    assert trained.losses[-1] < 0.05 * trained.losses[0]
    np.testing.assert_allclose(weights(task)[0], [[1, -2, 3, 0.5]], atol=0.15)
    assert not task.module.training


def test_two_fits_are_the_same_bits_whatever_happened_before():
    first, second = regression(0.1), regression(0.1)
    config = TrainingConfig(epochs=3, clip=1.0, warmup_steps=4, weight_decay=0.1, seed=3)
    trained = training.train(first, config)
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    assert training.train(second, config) == trained
    assert torch.equal(before, torch.random.get_rng_state())  # nobody else's random numbers were used
    assert not torch.are_deterministic_algorithms_enabled()
    assert equal(first, second)
    other = regression(0.1)
    training.train(other, config.model_copy(update={"seed": 4}))
    assert not equal(first, other)


class Killed(Exception):
    pass


def metric():
    """Return a validation of the weights alone, so that a resumed fit sees what the other saw."""

    def value(module):
        return -abs(float(module[1].weight.detach().abs().sum()) - 1.5)

    return value


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "adagrad"])
@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_killed_fit_goes_on_to_the_same_bits(optimizer, at, tmp_path):
    config = TrainingConfig(
        optimizer=optimizer, learning_rate=0.02, schedule="cosine", epochs=6, patience=6, warmup_steps=9
    )
    whole = regression(0.1, metric())
    expected = training.train(whole, config)

    def kill(progress: Progress) -> None:
        if progress.epoch == at:
            raise Killed

    with pytest.raises(Killed), watch.watching(kill, tmp_path, every=0):
        training.train(regression(0.1, metric()), config)
    seen: list[Progress] = []
    resumed = regression(0.1, metric())
    with watch.watching(seen.append, tmp_path):
        assert training.train(resumed, config) == expected
    assert [p.epoch for p in seen] == list(range(at + 1, 7))
    assert equal(whole, resumed)
    assert len(list(tmp_path.glob("*/epoch-*"))) == 1
    files = {p.name for p in tmp_path.glob("*/epoch-*/*")}
    assert files == {"state.safetensors", "manifest.json"}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "adagrad"])
@pytest.mark.parametrize("average", [1, 2])
def test_a_fit_killed_inside_an_epoch_goes_on_to_the_same_bits(optimizer, average, tmp_path):
    """Killed twice in one epoch, in the step that ends another, and in the last; each step is taken once."""
    config = TrainingConfig(optimizer=optimizer, learning_rate=0.02, schedule="cosine", epochs=4, clip=1.0)
    whole = replace(regression(0.1), average=average)
    expected = training.train(whole, config)
    kills, steps = [3, 5, 14, 28], []

    def resumed() -> Task:
        task = replace(regression(0.1), average=average)

        def loss(rows, random):
            found = task.loss(rows, random)
            if kills and len(steps) + 1 == kills[0]:
                kills.pop(0)
                raise Killed
            steps.append(rows)
            return found

        return replace(task, loss=loss)

    for _ in range(4):
        with pytest.raises(Killed), watch.watching(checkpoints=tmp_path, every=0):  # after every step
            training.train(resumed(), config)
        assert len(list(tmp_path.glob("*/*"))) == 1
    last = resumed()
    with watch.watching(checkpoints=tmp_path):
        assert training.train(last, config) == expected
    assert equal(whole, last)
    assert len(steps) == 28


def test_checkpoints_are_some_time_apart(tmp_path, monkeypatch):
    now, kept = [0.0], list[tuple[int, int | None]]()

    def keep(folder, trained, module, best, optimizer, within):
        kept.append((trained["epochs"], within and within.step))

    monkeypatch.setattr(training, "keep", keep)
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])

    def slow() -> Task:
        task = regression()

        def loss(rows, random):
            now[0] += 50.0  # seconds a step
            return task.loss(rows, random)

        return replace(task, loss=loss)

    for every, expected in (
        (120.0, [(0, 3), (0, 6), (1, 2), (1, 5)]),
        (350.0, [(1, None), (2, None)]),  # an epoch of 7 steps
        (701.0, []),
    ):
        kept.clear()
        with watch.watching(checkpoints=tmp_path, every=every):
            training.train(slow(), TrainingConfig(epochs=2))
        assert kept == expected


def test_what_belongs_together_is_kept_until_all_is_done(tmp_path):
    def both(second: TrainingConfig) -> None:
        with watch.undertaking("both"):
            training.train(regression(), TrainingConfig(epochs=1))
            training.train(regression(), second)

    with watch.watching(checkpoints=tmp_path, every=0):
        with pytest.raises(ContractError, match="diverged"):
            both(TrainingConfig(optimizer="sgd", learning_rate=1e6, epochs=50))
        assert len(list((tmp_path / "both").iterdir())) == 2
        both(TrainingConfig(epochs=2))
        assert not list(tmp_path.iterdir())
        training.train(regression(), TrainingConfig(epochs=1))
        assert len(list(tmp_path.iterdir())) == 1
    both(TrainingConfig(epochs=1))  # where nobody keeps anything


def test_a_checkpoint_of_another_fit_is_left_alone_and_a_changed_one_refused(tmp_path):
    config = TrainingConfig(epochs=2)
    with watch.watching(checkpoints=tmp_path, every=0):
        training.train(regression(), config)
        training.train(regression(), config.model_copy(update={"epochs": 3}))
        assert len(list(tmp_path.iterdir())) == 2
        elsewhere = regression()  # the same fit from other first weights, as an update is
        torch.nn.init.constant_(elsewhere.module[1].weight, 0.5)
        assert training.train(elsewhere, config).epochs == 2
        assert len(list(tmp_path.iterdir())) == 3
        for file in tmp_path.glob("*/*/state.safetensors"):
            file.write_bytes(file.read_bytes()[:-1])
        with pytest.raises(ContractError, match="SHA-256 differs"):
            training.train(regression(), config)


def test_it_stops_when_validation_does_and_keeps_the_best():
    values = iter([0.1, 0.3, 0.2, 0.25, 0.9])
    kept = []

    def value(module):
        kept.append([v.numpy().copy() for v in module.state_dict().values()])
        assert not module.training
        return next(values)

    task = regression(0.1, value)
    trained = training.train(task, TrainingConfig(epochs=20, patience=2))
    assert (trained.epochs, trained.best_epoch, trained.best) == (4, 2, 0.3)
    assert trained.validations == (0.1, 0.3, 0.2, 0.25)
    assert all(np.array_equal(a, b) for a, b in zip(weights(task), kept[1], strict=True))


def test_epochs_that_somebody_looks_at_change_nothing(tmp_path):
    config = TrainingConfig(epochs=4, learning_rate=0.05)
    for average in (1, 3):
        plain, seen = regression(0.1), list[Progress]()
        expected = training.train(replace(plain, average=average), config)
        looked = replace(regression(0.1, metric()), average=average)
        with watch.watching(seen.append, tmp_path / str(average), validates=True):
            trained = training.train(looked, config)
        assert [p.validation for p in seen] == list(trained.validations)
        assert len(set(trained.validations)) == 4
        assert replace(trained, validations=()) == expected
        assert equal(plain, looked)


def test_progress_tells_loss_and_time_left():
    seen: list[Progress] = []
    with watch.watching(seen.append):
        training.train(regression(), TrainingConfig(epochs=3))
        with watch.watching():
            training.train(regression(), TrainingConfig(epochs=1))  # not watched
    assert [(p.epoch, p.epochs, p.step, p.steps) for p in seen] == [(n, 3, 7, 7) for n in (1, 2, 3)]
    assert [p.remaining_s > 0 for p in seen] == [True, True, False]
    assert all(np.isfinite(p.loss) and p.validation is None for p in seen)


def test_what_is_noted_of_a_fit_holds_the_epochs_before_a_kill(tmp_path):
    config = TrainingConfig(epochs=4, patience=4)
    with watch.noting() as whole:
        training.train(regression(0.1, metric()), config)

    def kill(progress: Progress) -> None:
        assert not progress.resumed
        if progress.epoch == 3:
            raise Killed

    outside: list[Progress] = []
    with watch.watching(outside.append), watch.keeping(tmp_path, every=0):
        with watch.noting() as killed, pytest.raises(Killed), watch.telling(kill):
            training.train(regression(0.1, metric()), config)
        with watch.noting() as noted, watch.noting() as inside:
            training.train(regression(0.1, metric()), config)
            training.train(regression(0.1, metric()), config)  # of which all was done before
    assert killed == []
    assert inside == noted
    assert [(p.epoch, p.resumed) for p in outside] == [(1, False), (2, False), (4, True)]
    assert [fit.resumed for fit in (*whole, *noted)] == [False, True, True]
    assert [fit.epochs for fit in noted] == [whole[0].epochs] * 2
    assert [epoch.epoch for epoch in whole[0].epochs] == [1, 2, 3, 4]
    assert len({epoch.validation for epoch in whole[0].epochs}) == 4


def test_a_rate_warms_up_and_falls():
    rates, place = [], torch.device("cpu")
    for schedule in ("constant", "linear", "cosine"):
        config = TrainingConfig(schedule=schedule, warmup_steps=2)
        loop = training._Loop(regression(), config, place, Ranks(place))
        rates.append([loop._rate(step, 6) for step in range(1, 7)])
    np.testing.assert_allclose(rates[0], [0.5, 1, 1, 1, 1, 1])
    np.testing.assert_allclose(rates[1], [0.5, 1, 1, 0.75, 0.5, 0.25])
    np.testing.assert_allclose(rates[2], [0.5, 1, 1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5], atol=1e-12)


def test_divergence_says_what_to_change():
    config = TrainingConfig(optimizer="sgd", learning_rate=1e6, epochs=50)
    with pytest.raises(
        ContractError, match=r"training diverged; lower learning_rate \(now 1e\+06\), set clip"
    ):
        training.train(regression(), config)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_out_of_memory_says_which_setting_to_lower(error):
    task = regression()

    def loss(rows, random):
        raise error

    hungry = Task(task.module, task.batches, loss, "", memory=("batch_size", "something"))
    with pytest.raises(ContractError, match=r"lower batch_size \(now 128\), something"):
        training.train(hungry, TrainingConfig())
    wrong = Task(task.module, task.batches, lambda rows, random: task.module(torch.ones(3)), "")
    with pytest.raises(RuntimeError, match="shapes"):
        training.train(wrong, TrainingConfig())


def test_nothing_to_learn_from_leaves_the_module_as_it_is():
    task, other = regression(), regression()
    empty = Task(task.module, training.shuffled(0, 8), task.loss, "")
    assert training.train(empty, TrainingConfig()) == Trained()
    assert equal(task, other)


def test_half_precision_is_asked_for_not_assumed(monkeypatch):
    kinds = []
    task = regression()

    def loss(rows, random):
        found = task.module(torch.ones(len(rows), 4))
        kinds.append(found.dtype)
        return found.float().mean()

    for precision, worth, able, expected in (
        ("auto", False, True, torch.float32),
        ("auto", True, True, torch.bfloat16),
        ("auto", True, False, torch.float32),
        ("float32", True, True, torch.float32),
        ("bfloat16", False, False, torch.bfloat16),
    ):
        kinds.clear()
        monkeypatch.setattr(training, "multiplies_bfloat16", lambda able=able: able)
        config = TrainingConfig(epochs=1, precision=precision)
        with watch.watching(device="cpu"):
            training.train(Task(task.module, task.batches, loss, "", bfloat16=worth), config)
        assert set(kinds) == {expected}


def by_hand(rows, y, rates, decays, momentum, steps):
    """Return weight and bias after `steps` of SGD on a half squared error, each with factors of its own."""
    found, moved = [np.zeros(rows.shape[1]), 0.0], [0.0, 0.0]
    for _ in range(steps):
        off = rows @ found[0] + found[1] - y
        slopes = [off @ rows / len(rows), off.mean()]
        for n in range(2):
            slope = slopes[n] + decays[n] * found[n]
            moved[n] = momentum * moved[n] + slope
            found[n] = found[n] - rates[n] * moved[n]
    return found


@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_groups_have_a_rate_and_a_decay_of_their_own(momentum):
    random = np.random.default_rng(1)
    x, y = random.normal(size=(12, 3)), random.normal(size=12)
    layer = nn.Linear(3, 1).double()
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)

    def loss(rows, _):
        off = layer(torch.from_numpy(x[rows])).squeeze(1) - torch.from_numpy(y[rows])
        return (off**2).mean() / 2

    groups = (Group([layer.weight], rate=0.25), Group([layer.bias], rate=4.0, decay=0.0))
    task = Task(layer, training.shuffled(12, 12), loss, "", groups=groups)
    config = TrainingConfig(
        optimizer="sgd", learning_rate=0.1, weight_decay=0.3, momentum=momentum, epochs=7, precision="float32"
    )
    training.train(task, config)
    weight, bias = by_hand(x, y, (0.025, 0.4), (0.3, 0.0), momentum, 7)
    np.testing.assert_allclose(layer.weight.detach().numpy()[0], weight, rtol=1e-9)
    np.testing.assert_allclose(layer.bias.item(), bias, rtol=1e-9)


def test_one_group_of_all_is_no_groups_at_all():
    config = TrainingConfig(epochs=3, weight_decay=0.1, learning_rate=0.02, warmup_steps=2)
    plain, grouped = regression(), regression()
    grouped = replace(grouped, groups=(Group(list(grouped.module.parameters())),))
    assert training.train(plain, config) == training.train(grouped, config)
    assert equal(plain, grouped)


def test_a_parameter_in_no_group_or_in_two_is_refused_and_a_frozen_one_is_in_none():
    task = regression()
    weight, bias = task.module[1].weight, task.module[1].bias
    for wrong in ([Group([weight])], [Group([weight, bias]), Group([bias])]):
        with pytest.raises(ValueError, match="not the 2 that learn"):
            training.train(replace(task, groups=wrong), TrainingConfig(epochs=1))
    before = bias.detach().clone()
    bias.requires_grad_(False)
    training.train(replace(task, groups=[Group([weight])]), TrainingConfig(epochs=1))
    assert torch.equal(bias, before)


def test_groups_go_on_to_the_same_bits(tmp_path):
    def task():
        made = regression(0.1, metric())
        weight, bias = made.module[1].weight, made.module[1].bias
        return replace(made, groups=(Group([weight], 0.5), Group([bias], 3.0, 0.0)))

    config = TrainingConfig(epochs=5, learning_rate=0.02, weight_decay=0.1, patience=5)
    whole, resumed = task(), task()
    expected = training.train(whole, config)

    def kill(progress: Progress) -> None:
        if progress.epoch == 2:
            raise Killed

    with pytest.raises(Killed), watch.watching(kill, tmp_path, every=0):
        training.train(task(), config)
    with watch.watching(checkpoints=tmp_path):
        assert training.train(resumed, config) == expected
    assert equal(whole, resumed)
    assert not equal(whole, regression())


def test_warming_up_over_a_share_of_all_steps():
    place = torch.device("cpu")
    config = TrainingConfig(schedule="linear", warmup_share=0.4)
    loop = training._Loop(regression(), config, place, Ranks(place))
    np.testing.assert_allclose([loop._rate(step, 5) for step in range(1, 6)], [0.5, 1, 1, 2 / 3, 1 / 3])


def test_the_last_epochs_are_averaged_also_after_a_kill(tmp_path):
    config = TrainingConfig(epochs=5, learning_rate=0.05)
    ends = []
    for epochs in (3, 4, 5):
        task = regression(0.1)
        training.train(task, config.model_copy(update={"epochs": epochs}))
        ends.append(weights(task))
    averaged = replace(regression(0.1), average=3)
    training.train(averaged, config)
    for found, *each in zip(weights(averaged), *ends, strict=True):
        np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-6)

    def kill(progress: Progress) -> None:
        if progress.epoch == 4 and progress.step == progress.steps:
            raise Killed

    with pytest.raises(Killed), watch.watching(kill, tmp_path, every=0):
        training.train(replace(regression(0.1), average=3), config)
    resumed = replace(regression(0.1), average=3)
    with watch.watching(checkpoints=tmp_path):
        training.train(resumed, config)
    assert equal(resumed, averaged)
