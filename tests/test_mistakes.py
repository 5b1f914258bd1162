"""Mistakes seen in other implementations of categorical value heads, one test each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax
from jax.scipy.special import xlogy

from valuelearn import heads, supports
from valuelearn.backups import summed

CROSS_ENTROPY = ("two_hot", "hl_gauss", "c51")
SUPPORTED = ("mse_softmax", *CROSS_ENTROPY)


def certain(head, value):
    """Outputs of a network that is sure of one value on the locations."""
    return jnp.where(jnp.abs(head.locations - value) < 1e-5, 0.0, -100.0)


@pytest.mark.parametrize("reward", [-10.0, -9.6, 0.0, 0.4, 10.0, 12.0, -30.0])
def test_01_mass_vanishes_on_an_atom(reward):
    """Sharing by floor and ceiling loses everything where the two coincide."""
    c51, two_hot = heads.make("c51"), heads.make("two_hot")
    terminal = c51.target(jnp.zeros(51), summed(reward, 0.0))
    np.testing.assert_allclose(terminal.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(terminal, two_hot.encode(reward), atol=1e-6)
    np.testing.assert_allclose(terminal.max(), 1, atol=2e-6)


@pytest.mark.parametrize("v_max", [0.7, 1 / 3, 10.0, 1e-3, 12345.678])
@pytest.mark.parametrize("num_bins", [2, 11, 51, 101, 601])
def test_02_an_index_beyond_the_last_atom(v_max, num_bins):
    """(v_max - v_min) / width may round to above num_bins - 1; an empty support has no width."""
    head = heads.make("two_hot", v_min=-v_max, v_max=v_max, num_bins=num_bins)
    just_outside = jnp.nextafter(head.locations[-1], jnp.inf)
    np.testing.assert_array_equal(head.encode(just_outside), jnp.eye(num_bins)[-1])
    with pytest.raises(ValueError, match="must lie below"):
        heads.make("c51", v_min=v_max, v_max=v_max, num_bins=num_bins)


@pytest.mark.parametrize("name", CROSS_ENTROPY)
def test_03_cross_entropy_of_raw_logits(name):
    """Without the log-softmax a shift of all logits changes the loss, which has no floor."""
    head = heads.make(name)
    target, logits = head.target(jnp.zeros(51), summed(0.3, 0.9)), jnp.linspace(-1, 1, 51)
    np.testing.assert_allclose(head.loss(logits + 100, target), head.loss(logits, target), rtol=1e-5)
    assert head.loss(1e4 * logits, target) > -xlogy(target, target).sum()


@pytest.mark.parametrize("name", SUPPORTED)
def test_04_a_lower_bound_of_zero_taken_for_none(name):
    """`v_min if v_min else -v_max`."""
    head = heads.make(name, v_min=0, v_max=10)
    np.testing.assert_allclose(head.bounds, (0, 10))
    assert head.locations.min() >= 0


@pytest.mark.parametrize("name", [n for n in heads.NAMES if n != "iqn"])
def test_05_entropy_added_after_the_projection(name):
    """What is added to the return after it was encoded never reaches the loss."""
    head, entropy = heads.make(name), 0.7
    next_out, out = jnp.zeros(head.size), jnp.linspace(-1, 1, head.size)
    soft = head.target(next_out, lambda z: summed(0.3, 0.9)(z + entropy))
    np.testing.assert_allclose(soft, head.target(next_out, summed(0.3 + 0.9 * entropy, 0.9)), atol=2e-6)
    plain = head.target(next_out, summed(0.3, 0.9))
    assert jnp.abs(head.loss(out, soft) - head.loss(out, plain)) > 1e-3


@pytest.mark.parametrize("convention", ["edges", "centers"])
@pytest.mark.parametrize(("v_max", "num_bins"), [(10.0, 51), (10.0, 101), (200.0, 51)])
def test_06_sigma_kept_while_the_bins_change(convention, v_max, num_bins):
    """The ratio is what is set, 0.75 by default."""
    head = heads.make("hl_gauss", v_min=-v_max, v_max=v_max, num_bins=num_bins, convention=convention)
    np.testing.assert_allclose(head.sigma / jnp.diff(head.edges), 0.75, rtol=1e-4)


@pytest.mark.parametrize("reward", [11.6, 12.483, 1e3, 1e30, jnp.inf])
@pytest.mark.parametrize("sign", [-1, 1])
def test_07_no_clipping_of_targets(reward, sign):
    """erf saturates 5.4 sigma beyond the support: 0 / 0."""
    head = heads.make("hl_gauss")
    target = head.target(jnp.zeros(51), summed(sign * reward, 0.9))
    np.testing.assert_allclose(target, head.encode(sign * 10.0), atol=1e-6)
    loss, gradient = jax.value_and_grad(head.loss)(jnp.zeros(51), target)
    assert jnp.isfinite(loss)
    assert jnp.abs(gradient).sum() > 0.5


def test_08_a_constant_added_to_the_width():
    """rlax's two-hot is off by up to 2e-5; ours by rounding."""
    head, exact = heads.make("two_hot"), jnp.eye(51)
    theirs = rlax.transform_to_2hot(head.locations, -10.0, 10.0, 51)
    assert jnp.abs(head.encode(head.locations) - exact).max() < 1e-6
    assert jnp.abs(theirs - exact).max() > 1e-5


@pytest.mark.parametrize("name", CROSS_ENTROPY)
def test_09_a_constant_added_inside_the_logarithm(name):
    """log(p + 1e-8) has no gradient where the prediction is surely wrong."""
    head = heads.make(name, convention="centers")
    target = head.target(certain(head, -4.0), summed(0.0, 1.0))
    loss, gradient = jax.value_and_grad(head.loss)(certain(head, 8.0), target)
    np.testing.assert_allclose(loss, 100, rtol=1e-4)
    np.testing.assert_allclose(jnp.abs(gradient).sum(), 2, rtol=1e-4)


@pytest.mark.parametrize(("name", "last"), [("hl_gauss", 10 - 10 / 51), ("two_hot", 10.0), ("c51", 10.0)])
def test_10_centres_and_locations_exchanged(name, last):
    """HL-Gauss reads the centres of its bins, half a bin inside; the others their end points."""
    head = heads.make(name)
    out = jnp.full(51, -100.0).at[-1].set(0.0)
    np.testing.assert_allclose(head.value(out), last, rtol=1e-6)
    centers = heads.make("hl_gauss", convention="centers")
    np.testing.assert_allclose(centers.locations, supports.locations(-10, 10, 51), atol=2e-6)


@pytest.mark.parametrize("name", CROSS_ENTROPY)
@pytest.mark.parametrize("num_bins", [11, 101])
def test_11_mean_over_bins(name, num_bins):
    """It divides the learning rate by the number of bins."""
    head = heads.make(name, num_bins=num_bins)
    out = jnp.zeros(num_bins)
    np.testing.assert_allclose(
        head.loss(out, head.target(out, summed(0.3, 0.9))), np.log(num_bins), rtol=1e-6
    )


@pytest.mark.parametrize("name", SUPPORTED)
def test_12_averaging_logits(name):
    """Critics that are sure of -4 and of 8 average to 2; by logits the surer one would win."""
    head = heads.make(name, convention="centers")
    critics = jnp.stack([certain(head, -4.0), 0.3 * certain(head, 8.0)])
    mixed = head.mix(critics, jnp.full(2, 0.5))
    np.testing.assert_allclose(head.value(mixed), 2, atol=1e-4)
    np.testing.assert_allclose(head.atoms(mixed)[1], jax.nn.softmax(critics).mean(0), atol=1e-6)


@pytest.mark.parametrize("name", heads.NAMES)
def test_13_one_discount_for_many_steps(name):
    """After n steps atoms and values alike are discounted by gamma^n."""
    head, gamma, rewards = heads.make(name, convention="centers"), 0.9, (0.5, -0.25, 1.0)
    next_out = jnp.full(head.size, 4.0) if not hasattr(head, "locations") else certain(head, 4.0)
    reward = sum(gamma**i * r for i, r in enumerate(rewards))
    target = head.target(next_out, summed(reward, gamma**3))
    read = target @ head.locations if target.shape == (51,) else target.mean()
    np.testing.assert_allclose(read, reward + gamma**3 * 4.0, atol=1e-4)


@pytest.mark.parametrize("name", ["mse", *CROSS_ENTROPY])
def test_14_a_time_limit_taken_for_an_end(name):
    """With discounts that are never 0 a reward of 1 for ever is worth 1 / (1 - gamma)."""
    head, gamma = heads.make(name, v_min=0, v_max=15), 0.9
    read = jax.jit(lambda next_out: head.target(next_out, summed(1.0, gamma)))
    out = jnp.zeros(head.size)
    for _ in range(200):
        target = read(out)
        out = jnp.log(target) if target.ndim else target[None]
    np.testing.assert_allclose(head.value(out), 10, rtol=1e-3)


def test_15_a_support_that_does_not_fit_the_rewards():
    """Noise of U(0, 1) on rewards lifts all values by 50: far out, and it must show."""
    for name in SUPPORTED:
        head = heads.make(name)
        targets = [heads.backed_up(head, jnp.zeros(51), summed(r, 0.99)) for r in (0.05, 50.0)]
        near, far = (heads.support_fit(head, *target) for target in targets)
        np.testing.assert_allclose(near, (0, 0, 0), atol=1e-5)
        np.testing.assert_allclose(far[:2], (0, 1))
        assert -41 < far.edge_bias < -39


def test_16_a_baseline_that_is_not_the_plain_square():
    """No Huber zone, no factor 1/2: 9 at an error of 3, and a gradient of 6."""
    head = heads.make("mse")
    loss, gradient = jax.value_and_grad(head.loss)(jnp.asarray([5.0]), jnp.asarray(2.0))
    assert (loss, gradient[0]) == (9.0, 6.0)
