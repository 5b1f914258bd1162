"""Reference vectors made outside this code (60-digit arithmetic), in float32 and in float64."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import xlogy

from valuelearn import heads, projections, supports
from valuelearn.backups import summed

VECTORS = json.loads((pathlib.Path(__file__).parent / "vectors/hl_gauss.json").read_text())
TOLERANCE = {"float32": 2e-6, "float64": 1e-12}  # The file's own, absolute, on probabilities.

hl_gauss = jax.jit(projections.hl_gauss)
encode = jax.jit(lambda head, value: head.encode(value))


@pytest.fixture(params=TOLERANCE)
def tolerance(request):
    with jax.enable_x64(request.param == "float64"):
        yield TOLERANCE[request.param]


def by_id(cases):
    return pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in cases])


def same_probabilities(actual, desired, tolerance):
    np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance)


def same_returns(actual, desired, tolerance):
    np.testing.assert_allclose(actual, desired, rtol=tolerance, atol=tolerance)


def hl_gauss_case(case):
    """The case's target, edges and sigma."""
    target = jnp.asarray(case["target"])
    if case["clamped_target"] != case["target"]:
        target = jnp.clip(target, case["v_min"], case["v_max"])
    edges = supports.edges(case["v_min"], case["v_max"], case["num_bins"], case["convention"])
    return target, jnp.asarray(edges), case["sigma"]


@by_id(VECTORS["hl_gauss"])
def test_hl_gauss(case, tolerance):
    target, edges, sigma = hl_gauss_case(case)
    probabilities = hl_gauss(target, edges, sigma)
    same_probabilities(probabilities, case["probs"], tolerance)
    same_returns(probabilities @ heads.HLGauss(edges, sigma).locations, case["readout"], tolerance)
    same_returns(-xlogy(probabilities, probabilities).sum(), case["entropy"], tolerance)


@by_id(case for case in VECTORS["hl_gauss"] if "log_probs" in case)
def test_hl_gauss_tails_keep_their_digits(case):
    desired = np.asarray(case["log_probs"])
    held = desired > -700  # The rest is below the smallest float64.
    with jax.enable_x64(True):
        actual = np.log(hl_gauss(*hl_gauss_case(case)), where=held, out=np.zeros_like(desired))
    # Beyond 20 sigma the series of JAX's log_ndtr leaves 3e-9 of a mass of e^-200.
    np.testing.assert_allclose(actual[held], desired[held], rtol=2e-11)


@pytest.mark.parametrize("case", VECTORS["hl_gauss_interior_bias"]["cases"], ids=lambda c: str(c["ratio"]))
def test_hl_gauss_interior_bias(case, tolerance):
    head = heads.make("hl_gauss", sigma_ratio=case["ratio"])
    bias = encode(head, case["target"]) @ head.locations - case["target"]
    same_probabilities(bias, case["readout_minus_target"], tolerance)
    same_probabilities(bias, case["series"], tolerance)


@pytest.mark.parametrize("convention", ["edges", "centers"])
def test_hl_gauss_self_loop_fixed_points(convention, tolerance):
    cases = [c for c in VECTORS["hl_gauss_self_loop_fixed_points"]["cases"] if c["convention"] == convention]
    columns = ("true_value", "reward", "gamma", "single_projection_readout", "fixed_point")
    true_value, reward, gamma, once, fixed = (jnp.asarray([c[key] for c in cases]) for key in columns)
    head = heads.make("hl_gauss", convention=convention)

    @jax.jit
    def learnt(target):
        return head.value(jnp.log(head.encode(target)))

    same_returns(learnt(true_value), once, tolerance)
    same_returns(learnt(reward + gamma * fixed), fixed, tolerance)
    if tolerance == TOLERANCE["float64"]:  # Iterating amplifies rounding a hundredfold.
        reached = jax.lax.fori_loop(0, 4000, lambda _, v: learnt(reward + gamma * v), jnp.zeros_like(fixed))
        same_returns(reached, fixed, tolerance)


TWO_HOT_LOCATIONS = {
    "linspace(-10,10,51)": (-10, 10, 51),
    "[-2,-1,0,1,2]": (-2, 2, 5),
    "symexp(linspace(-20,20,255)) (DreamerV3 bins)": (-np.expm1(20), np.expm1(20), 255, "symlog"),
    "linspace(-10,10,101) in symlog space (TD-MPC2)": (-10, 10, 101),
}


@by_id(VECTORS["two_hot"])
def test_two_hot(case, tolerance):
    head = heads.TwoHot(jnp.asarray(supports.locations(*TWO_HOT_LOCATIONS[case["support"]])))
    coordinate = supports.transform("symlog" if "transformed" in case else "identity")
    expected = np.zeros(case["num_locations"])
    expected[[int(index) for index in case["nonzero"]]] = list(case["nonzero"].values())
    probabilities = encode(head, coordinate.forward(jnp.asarray(case["target"])))
    same_probabilities(probabilities, expected, tolerance)
    same_returns(coordinate.inverse(head.value(jnp.log(probabilities))), case["readout"], tolerance)


@pytest.mark.parametrize("case", VECTORS["transforms"], ids=lambda case: str(case["x"]))
def test_transforms(case, tolerance):
    x = jnp.asarray(case["x"])
    symlog, hyperbolic = supports.transform("symlog"), supports.transform("signed_hyperbolic")
    same_returns(symlog.forward(x), case["symlog"], tolerance)
    same_returns(symlog.inverse(jnp.asarray(case["symlog"])), case["x"], tolerance)
    same_returns(hyperbolic.forward(x), case["signed_hyperbolic_eps1e3"], tolerance)
    round_trip = hyperbolic.inverse(hyperbolic.forward(x))
    same_returns(round_trip, case["roundtrip_signed_hyperbolic"], tolerance)
    if case["symexp"] is not None:  # None where it overflows.
        same_returns(symlog.inverse(x), case["symexp"], tolerance)


@by_id(VECTORS["c51"])
def test_c51(case, tolerance):
    head = heads.Categorical(jnp.asarray(case["support"]))
    given = case["next_logits"] if "next_logits" in case else np.log(case["next_probs"])
    next_out, discount = jnp.asarray(given), case["discount"] * (1 - case["done"])
    shift = case["entropy_shift"]  # Of SAC: alpha times the log-probability of the next action.
    target = head.target(next_out, lambda z: summed(case["reward"], discount)(z - shift))
    same_probabilities(head.atoms(next_out)[1], case["next_probs"], tolerance)
    same_probabilities(target, case["projected"], tolerance)
    same_returns(moments(target, head), (case["mean"], case["variance"]), tolerance)


def moments(law, head):
    law, locations = np.asarray(law, np.float64), np.asarray(head.locations, np.float64)
    return law @ locations, law @ (locations - law @ locations) ** 2


def test_c51_diffuses_where_two_hot_does_not(tolerance):
    c51, two_hot, backup = heads.make("c51"), heads.make("two_hot"), summed(0.0, 0.99)
    expected = {step["k"]: step for step in VECTORS["c51_variance_growth"]["steps"]}
    law = point = encode(two_hot, 8.0)
    for k in range(1, max(expected) + 1):
        law, point = c51.target(jnp.log(law), backup), two_hot.target(jnp.log(point), backup)
        if step := expected.get(k):
            same_returns(moments(law, c51), (step["c51_mean"], step["c51_variance"]), tolerance)
            same_returns(moments(point, two_hot), (step["true_mean"], step["two_hot_variance"]), tolerance)
            assert (law > 1e-3).sum() == step["c51_nonzero_atoms"]


@by_id(VECTORS["loss_and_gradients"])
def test_loss_and_gradients(case, tolerance):
    logits, value = jnp.asarray(case["logits"]), float(case["target_case"].removeprefix("hl_small_y="))
    head = heads.make("hl_gauss", v_min=0.0, v_max=10.0, num_bins=10)
    target = encode(head, value)
    loss, gradient = jax.value_and_grad(head.loss)(logits, target)
    same_returns(loss, case["cross_entropy"], tolerance)
    same_returns(loss + xlogy(target, target).sum(), case["kl"], tolerance)
    same_probabilities(gradient, case["grad_logits"], tolerance)
    same_returns(jnp.abs(gradient).sum(), case["grad_l1"], tolerance)
    readout, slope = jax.value_and_grad(head.value)(logits)
    same_returns(readout, case["q_readout"], tolerance)
    same_returns(slope, case["dq_dlogits"], tolerance)
    loss, gradient = jax.value_and_grad(heads.SoftmaxScalar(head.locations).loss)(logits, value)
    same_returns(loss, case["mse_softmax_loss"], tolerance)
    same_returns(gradient, case["mse_softmax_grad"], tolerance)
