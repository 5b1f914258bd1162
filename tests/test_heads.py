"""What every value head must do, and what each does in its own way."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from valuelearn import heads, networks, projections
from valuelearn.backups import summed

SMALL = {"num_quantiles": 8, "num_fractions": 8}
HEADS = {name: heads.make(name, **SMALL) for name in heads.NAMES}
SOFTMAX = ("mse_softmax", "two_hot", "hl_gauss", "c51")
every_head = pytest.mark.parametrize("name", heads.NAMES)


def outputs(head, seed, *shape):
    """Random outputs [*shape, N]; fractions, where the head has them, are the midpoints."""
    if isinstance(head, heads.ImplicitQuantile):
        fractions = jnp.broadcast_to(projections.quantile_midpoints(8), (*shape, 8))
        return jnp.concatenate([jax.random.normal(jax.random.key(seed), (*shape, 8)), fractions], -1)
    return jax.random.normal(jax.random.key(seed), (*shape, head.size))


def decode(head, target):
    """The value that a target stands for."""
    if not target.ndim:
        return target
    return target @ head.locations if hasattr(head, "locations") else target.mean(-1)


@every_head
def test_size_is_what_the_network_gives(name):
    head = HEADS[name]
    network = networks.action_value(3, head, hidden=(4,))
    obs, key = jnp.ones((2, 5)), jax.random.key(0)
    out = jax.eval_shape(lambda: network.apply(network.init(key, obs), obs, key))
    assert out.shape == (2, 3, head.size)


@every_head
def test_value_is_the_mean_of_the_atoms(name):
    head = HEADS[name]
    out = outputs(head, 0, 4, 3)
    returns, probabilities = head.atoms(out)
    assert returns.shape == probabilities.shape
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose((returns * probabilities).sum(-1), head.value(out), atol=1e-5)


@every_head
def test_no_gradient_flows_into_the_target(name):
    head = HEADS[name]
    out, next_out = outputs(head, 0), outputs(head, 1)

    def loss(out, next_out, reward, discount):
        return head.loss(out, head.target(next_out, summed(reward, discount)))

    mine, *others = jax.grad(loss, range(4))(out, next_out, 0.3, 0.9)
    assert jnp.abs(mine).sum() > 0
    assert all((jnp.asarray(gradient) == 0).all() for gradient in others)


@every_head
@pytest.mark.parametrize("action", range(3))
def test_mixing_with_one_action_selects_it(name, action):
    head = HEADS[name]
    out = outputs(head, 0, 5, 3)
    mixed = head.mix(out, jax.nn.one_hot(action, 3))
    np.testing.assert_allclose(head.value(mixed), head.value(out)[:, action], atol=1e-5)
    for ours, theirs in zip(head.atoms(mixed), head.atoms(out), strict=True):
        np.testing.assert_allclose(ours, theirs[:, action], atol=1e-6)


@every_head
def test_mixing_averages_values(name):
    head, policy = HEADS[name], jnp.asarray([0.2, 0.5, 0.3])
    out = 10 * outputs(head, 0, 5, 3)  # Peaked, so that averaged logits would read otherwise.
    np.testing.assert_allclose(head.value(head.mix(out, policy)), head.value(out) @ policy, atol=1e-4)


@pytest.mark.parametrize("name", SOFTMAX)
def test_mixing_averages_probabilities(name):
    head, policy = HEADS[name], jnp.asarray([0.2, 0.5, 0.3])
    out = 10 * outputs(head, 0, 3)
    np.testing.assert_allclose(head.atoms(head.mix(out, policy))[1], policy @ head.atoms(out)[1], atol=1e-6)


@every_head
def test_compiled_or_not(name):
    head, backup = HEADS[name], summed(0.3, 0.9)
    out, next_out = outputs(head, 0, 3), outputs(head, 1)

    def everything(head, out, next_out):
        target = head.target(next_out, backup)
        return (
            head.value(out),
            head.atoms(out),
            head.mix(out, jnp.full(3, 1 / 3)),
            target,
            head.loss(out, target),
        )

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6),
        everything(head, out, next_out),
        jax.jit(everything)(head, out, next_out),
    )


@every_head
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_bfloat16_outputs(name, scale):
    head = HEADS[name]
    out = (scale * outputs(head, 0, 4, 3)).astype(jnp.bfloat16)
    targets = jax.vmap(head.target, (0, None))(out[:, 0], summed(jnp.float32(0.3), jnp.float32(0.9)))
    for number in (head.value(out), targets, head.loss(out[:, 0], targets)):
        assert number.dtype == jnp.float32
        assert jnp.isfinite(number).all()
    gradient = jax.grad(lambda out: head.loss(out, targets).sum())(out[:, 0])
    assert gradient.dtype == jnp.bfloat16 and jnp.isfinite(gradient).all()
    wide, policy = out.astype(jnp.float32), jnp.asarray([0.2, 0.5, 0.3])
    np.testing.assert_allclose(head.value(out), head.value(wide), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        head.value(head.mix(out, policy)), head.value(head.mix(wide, policy)), rtol=1e-5, atol=1e-5
    )


@every_head
@pytest.mark.parametrize("discount", [0.0, 0.5, 0.99**3])
def test_a_target_weighs_the_next_value_by_the_discount(name, discount):
    head, backup = HEADS[name], summed(0.2, discount)
    near, far = outputs(head, 0), outputs(head, 3)
    read = [decode(head, head.target(out, backup)) for out in (near, far)]
    np.testing.assert_allclose(read[1] - read[0], discount * (head.value(far) - head.value(near)), atol=2e-5)
    np.testing.assert_allclose(read[0], 0.2 + discount * head.value(near), atol=2e-5)


@every_head
@pytest.mark.parametrize("n", [1, 3])
def test_the_bootstrap_weight_that_a_loss_implies(name, n, monkeypatch):
    """The least loss moves with the next value by gamma to the n, by the implicit function theorem."""
    monkeypatch.setattr(jax.lax, "stop_gradient", lambda x: x)
    # Within Huber's zone, where there is a second derivative.
    head = heads.make(name, v_min=-6, v_max=6, num_bins=13, kappa=30.0, delta=30.0, **SMALL)
    out, next_out = outputs(head, 1), outputs(head, 2)
    if name == "mse_softmax":  # The one loss whose curvature tells of the target only where it is least.
        out = reach(head, head.target(next_out, summed(0.2, 0.9**n)))
    free = 8 if name == "iqn" else head.size  # Its fractions are given.
    # Quantiles move together: a loss weighs them unequally, and shifts alone are the same to each.
    direction = jnp.ones(free) if name in ("qr", "iqn") else outputs(head, 3)

    def moved(next_out, step):
        return next_out.at[:free].add(step * direction)

    def loss(first, step):
        target = head.target(moved(next_out, step), summed(0.2, 0.9**n))
        return head.loss(out.at[:free].set(first), target)

    curvature = jax.hessian(loss)(out[:free], 0.0)
    cross = jax.jacfwd(jax.grad(loss), 1)(out[:free], 0.0)
    gradient = jax.grad(head.value)(out)[:free]
    # Adding a constant to all logits changes nothing: a pseudo-inverse.
    response = -gradient @ jnp.linalg.pinv(curvature, rtol=1e-5, hermitian=True) @ cross
    next_response = jax.grad(lambda step: head.value(moved(next_out, step)))(0.0)
    np.testing.assert_allclose(response, 0.9**n * next_response, rtol=2e-3)


@pytest.mark.parametrize("name", ["two_hot", "hl_gauss", "c51"])
@pytest.mark.parametrize("transform", ["symlog", "signed_hyperbolic"])
def test_a_target_is_unbiased_on_a_transformed_support(name, transform):
    head = heads.make(name, v_min=-1e3, v_max=1e3, transform=transform)
    np.testing.assert_allclose(head.bounds, (-1e3, 1e3), rtol=1e-6)
    out = outputs(head, 0)
    read = decode(head, head.target(out, summed(5.0, 0.99)))
    np.testing.assert_allclose(read, 5.0 + 0.99 * head.value(out), rtol=1e-5, atol=1e-3)


def reach(head, target):
    """Outputs that stand for the target."""
    match head:
        case heads.Scalar():
            return target[None]
        case heads.Quantile():
            return jnp.sort(target)
        case heads.ImplicitQuantile():
            return jnp.concatenate([jnp.sort(target), projections.quantile_midpoints(8)])
        case heads.SoftmaxScalar():
            target = projections.two_hot(target, head.locations)
    return jnp.log(jnp.maximum(target, 1e-30))


@every_head
@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_least_at_the_target(name, seed):
    head = heads.make(name, kappa=0.0, **SMALL)  # A Huber zone trades quantiles for means.
    target = head.target(outputs(head, 10), summed(0.3, 0.9))
    out = reach(head, target)
    step = 0.1 * outputs(head, seed)
    if name == "iqn":
        step = step.at[8:].set(0.0)  # Fractions are given.
    assert head.loss(out + step, target) > head.loss(out, target)


@given(value=st.floats(-12, 12, width=32))
def test_label_smoothing_spreads_its_share(value):
    for name in ("two_hot", "hl_gauss"):
        plain, smooth = heads.make(name), heads.make(name, label_smoothing=0.1)
        np.testing.assert_allclose(smooth.encode(value), 0.9 * plain.encode(value) + 0.1 / 51, atol=1e-6)


def fit(head, out, reward):
    """What the support does to a target of that reward and the whole next value."""
    return heads.support_fit(head, *heads.backed_up(head, out, summed(reward, 1.0)))


@pytest.mark.parametrize(("reward", "below", "above"), [(0.0, 0, 0), (11.0, 0, 1), (-12.5, 1, 0)])
@pytest.mark.parametrize("name", ["mse_softmax", "two_hot", "hl_gauss"])
def test_the_support_of_scalar_targets(name, reward, below, above):
    found = fit(HEADS[name], jnp.zeros(51), reward)
    end = np.clip(reward, -10, 10)
    if name == "hl_gauss":  # At an end the reading is pulled inwards by 0.92 sigma.
        end -= 0.92 * 0.75 * 20 / 51 * np.sign(reward)
    np.testing.assert_allclose(found, (below, above, end - reward), atol=2e-3)


@pytest.mark.parametrize(("reward", "below", "above"), [(0.0, 0, 0), (2.1, 0, 6 / 51), (-30.0, 1, 0)])
def test_the_support_of_atoms(reward, below, above):
    found = fit(HEADS["c51"], jnp.zeros(51), reward)
    atoms = np.linspace(-10, 10, 51) + reward
    bias = (np.clip(atoms, -10, 10) - atoms).mean()
    np.testing.assert_allclose(found, (below, above, bias), rtol=1e-5, atol=1e-5)


@every_head
def test_a_fitted_head_reads_what_its_target_is_biased_by(name):
    """The bias at the ends is that of the targets that the head is fitted to."""
    head, out = heads.make(name, v_min=-2.0, v_max=2.0, **SMALL), outputs(heads.make(name, **SMALL), 0)
    returns, probabilities = heads.backed_up(head, out, summed(1.7, 0.9))
    read = decode(head, head.target(out, summed(1.7, 0.9)))
    if name == "mse_softmax":  # Its scalar target is what it cannot reach.
        read = jnp.clip(read, -2.0, 2.0)
    bias = heads.support_fit(head, returns, probabilities).edge_bias
    np.testing.assert_allclose(read - (returns * probabilities).sum(), bias, atol=1e-5)


@pytest.mark.parametrize("name", ["mse", "huber", "qr", "iqn"])
def test_nothing_is_lost_without_a_support(name):
    assert not np.any(fit(HEADS[name], outputs(HEADS[name], 0), 1e30))


VECTOR = st_numpy.arrays(np.float32, 8, elements=st.floats(-10, 10, width=32))


@given(quantiles=VECTOR, target=VECTOR, kappa=st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_quantile_losses_against_rlax(quantiles, target, kappa):
    fractions = projections.quantile_midpoints(8)
    expected = rlax.quantile_regression_loss(quantiles, fractions, target, kappa)
    expected = expected / kappa if kappa else expected
    qr, iqn = heads.Quantile(8, kappa), heads.ImplicitQuantile(8, kappa)
    both = jnp.concatenate([quantiles, fractions])
    np.testing.assert_allclose(qr.loss(quantiles, target), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(iqn.loss(both, target), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kappa", [0.0, 0.5, 2.0])
def test_gradients_of_quantile_losses_against_rlax(kappa):
    """Ours are written out."""
    fractions = projections.quantile_midpoints(8)
    quantiles, target = (3 * jax.random.normal(jax.random.key(n), (n,)) for n in (8, 5))

    def theirs(quantiles):
        return rlax.quantile_regression_loss(quantiles, fractions, target, kappa)

    expected = jax.grad(theirs)(quantiles) / (kappa or 1)
    mine = jax.grad(heads.Quantile(8, kappa).loss)(quantiles, target)
    np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-6)
    assert jnp.abs(expected).sum() > 0.1
    batch = jnp.stack([quantiles, -quantiles])  # Rows do not share a gradient, and losses weigh it.
    weighed = jax.grad(lambda x: jnp.array([1.0, 3.0]) @ heads.Quantile(8, kappa).loss(x, target))(batch)
    np.testing.assert_allclose(weighed[0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        weighed[1], 3 * jax.grad(theirs)(-quantiles) / (kappa or 1), rtol=1e-5, atol=1e-6
    )


@given(
    out=st.floats(-10, 10, width=32),
    target=st.floats(-10, 10, width=32),
    delta=st.sampled_from([0.5, 1.0, 3.0]),
)
def test_huber_against_rlax(out, target, delta):
    loss = heads.make("huber", delta=delta).loss(jnp.asarray([out]), jnp.asarray(target))
    np.testing.assert_allclose(loss, rlax.huber_loss(jnp.asarray(out - target), delta), rtol=1e-5, atol=1e-6)


def test_an_unknown_head_is_refused():
    with pytest.raises(ValueError, match="head 'l2' is not one of mse, huber"):
        heads.make("l2")


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("qr", "kappa", -1.0),
        ("qr", "kappa", 1e-4),
        ("iqn", "kappa", np.inf),
        ("qr", "num_quantiles", 0),
        ("iqn", "num_fractions", 0),
        ("huber", "delta", 0.0),
        ("two_hot", "label_smoothing", -0.1),
        ("hl_gauss", "label_smoothing", 1.1),
        ("hl_gauss", "sigma_ratio", 0.0),
        ("hl_gauss", "sigma_ratio", np.inf),
    ],
)
def test_options_out_of_their_range_are_refused(name, option, value):
    with pytest.raises(ValueError, match=f"{option} is {value}; a .*number .*is wanted"):
        heads.make(name, **{option: value})


def test_heads_do_not_need_flax():
    code = "import sys; from valuelearn.heads import HLGauss; sys.exit('flax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("huber", {"delta": 1.0}),
        ("two_hot", {"v_min": -10.0, "v_max": 10.0, "num_bins": 51, "label_smoothing": 0.0}),
        (
            "hl_gauss",
            {"v_min": -10.0, "v_max": 10.0, "num_bins": 51, "sigma_ratio": 0.75, "convention": "edges"},
        ),
        ("c51", {"v_min": -10.0, "v_max": 10.0, "num_bins": 51}),
        ("qr", {"num_quantiles": 200, "kappa": 1.0}),
        ("iqn", {"num_fractions": 64, "kappa": 1.0}),
    ],
)
def test_options_that_are_not_given_are_the_published_ones(name, options):
    given, named = heads.make(name), heads.make(name, **options)
    assert jax.tree.structure(given) == jax.tree.structure(named)
    jax.tree.map(np.testing.assert_array_equal, given, named)


@pytest.mark.parametrize("name", ["two_hot", "hl_gauss"])
def test_smoothed_labels_are_read_as_they_are(name):
    head = heads.make(name, v_min=-10, v_max=20, label_smoothing=0.1)
    values = jnp.asarray([-5.0, 0.0, 12.0])
    read = head.encode(values) @ head.locations
    np.testing.assert_allclose(read, 0.9 * values + 0.1 * 5.0, atol=1e-4)
    np.testing.assert_allclose(head.readable(values), read, atol=1e-5)


def test_quantiles_of_few_digits_are_judged_with_more():
    quantiles, target = jnp.arange(300.0, 341.0, 10), jnp.asarray([310.0, 330.0])
    head = heads.make("qr", num_quantiles=5)
    few = jax.value_and_grad(head.loss)(quantiles.astype(jnp.bfloat16), target)
    many = jax.value_and_grad(head.loss)(quantiles.astype(jnp.bfloat16).astype(jnp.float32), target)
    assert few[1].dtype == jnp.bfloat16
    np.testing.assert_allclose(few[0], many[0], rtol=1e-6)
    np.testing.assert_allclose(few[1].astype(jnp.float32), many[1], atol=1e-3)
