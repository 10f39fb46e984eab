"""The layers that stand in for torch's own: the same function, the same law of chance."""

import pytest

torch = pytest.importorskip("torch")

from recsys.networks.layers import Dropout, attention  # noqa: E402


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def slow_attention(q, k, v, allowed):
    """One query at a time, over the places it may see."""
    out = torch.zeros_like(v)
    for b, heads, place in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])):
        seen = torch.nonzero(allowed[b, place]).squeeze(1)
        products = k[b, heads, seen] @ q[b, heads, place] / q.shape[-1] ** 0.5
        out[b, heads, place] = torch.softmax(products, 0) @ v[b, heads, seen]
    return out


@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_the_slow_one_with_and_without_gradients(causal):
    q, k, v = (torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    real = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    allowed = torch.ones(5, 5).tril().bool().expand(2, 5, 5) if causal else real[:, None].expand(2, 5, 5)
    expected = slow_attention(q, k, v, allowed)
    trained = attention(q, k, v, None if causal else real)
    torch.testing.assert_close(trained, expected)
    weights = torch.randn_like(trained)
    found = torch.autograd.grad((trained * weights).sum(), (q, k, v))
    wanted = torch.autograd.grad((expected * weights).sum(), (q, k, v))
    torch.testing.assert_close(found, wanted)
    with torch.no_grad():
        torch.testing.assert_close(attention(q, k, v, None if causal else real), expected)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_anywhere_and_keeps_the_mean(share, kind):
    layer = Dropout(share).train()
    x = torch.ones(41, 7, 101, dtype=kind)  # no multiple of four: the last draw is used in part
    y = layer(x)
    assert y.dtype == kind
    kept = y != 0
    n = kept.numel()
    error = (share * (1 - share) / n) ** 0.5
    assert abs(float((~kept).double().mean()) - share) < 4 * error
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / (1 - share)), rtol=1e-2, atol=0)
    # Each of the four decisions of a draw is as likely as the others, and neighbours are independent.
    flat = kept.flatten().double()
    for lane in range(4):
        assert abs(float(flat[lane::4].mean()) - (1 - share)) < 4 * error * 2
    both = float((flat[1:] * flat[:-1]).mean())
    assert abs(both - (1 - share) ** 2) < 6 * error
    assert not torch.equal(layer(x), y)


def test_dropout_passes_the_gradient_of_what_it_kept_and_rests_in_eval():
    x = torch.randn(64, 8, requires_grad=True)
    layer = Dropout(0.5).train()
    y = layer(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad * x, y)
    assert layer.eval()(x) is x
    assert Dropout(0.0).train()(x) is x
