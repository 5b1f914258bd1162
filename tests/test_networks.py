"""Layers and networks: the fast convolution, initial values, and what shapes come out."""

import re
import typing
from functools import partial

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from valuelearn import heads, networks
from valuelearn.types import Stocked

pytestmark = pytest.mark.usefixtures("quick_compilation")
KEY = jax.random.key(0)
HEAD = heads.make("c51", num_bins=5)
OBS = jax.random.normal(KEY, (4, 6))


def images(*shape, dtype=jnp.float32):
    pixels = jax.random.randint(KEY, shape, 0, 256)
    return pixels.astype(dtype) if dtype == jnp.uint8 else pixels / 255.0


def leaves(tree, name):
    """The leaves of that name, in order of their paths."""
    return [leaf for path, leaf in jax.tree.leaves_with_path(tree) if path[-1].key == name]


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("kernel", "stride"), [(8, 4), (4, 2), (3, 1), (3, 2)])
def test_matmul_convolution_is_the_convolution(kernel, stride, padding, dtype):
    x = images(2, 12, 11, 3, dtype=dtype)  # An even and an odd side.
    layers = [networks.Conv(5, kernel, stride, "fan_in_uniform", padding, form) for form in (True, False)]

    def reference(params, x):
        x = x / 255.0 if x.dtype == jnp.uint8 else x
        layout = ("NHWC", "HWIO", "NHWC")
        kernel, bias = params["params"]["kernel"], params["params"]["bias"]
        return bias + jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), padding.upper(), None, None, layout
        )

    @jax.jit
    def everything(key):
        """Outputs and gradients of the three: by params, and by images unless they are bytes."""
        params = layers[0].init(key, x)
        results = []
        for function in (layers[0].apply, layers[1].apply, reference):
            if dtype == jnp.uint8:
                out, pull = jax.vjp(lambda p, f=function: f(p, x), params)
            else:
                out, pull = jax.vjp(function, params, x)
            results.append((out, pull(jax.random.normal(key, out.shape))))
        return results

    *ours, expected = everything(KEY)
    for found in ours:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=5e-5), found, expected)


@pytest.mark.parametrize(("padding", "features"), [("same", 7744), ("valid", 3136)])
def test_nature_features(padding, features):
    network = networks.action_value(4, HEAD, torso="nature", padding=padding)
    params = jax.eval_shape(network.init, KEY, jnp.zeros((1, 84, 84, 4), jnp.uint8))
    shapes = [kernel.shape for kernel in leaves(params, "kernel")]
    assert (features, 512) in shapes
    assert (512, 4 * 5) in shapes


@pytest.mark.parametrize(
    ("torso", "obs"),
    [
        ("nature", images(2, 36, 36, 4, dtype=jnp.uint8)),
        ("impala", images(2, 20, 20, 4, dtype=jnp.uint8)),
        ("minatar", images(2, 10, 10, 4) > 0.5),
        ("mlp", OBS[:2]),
    ],
    ids=typing.get_args(networks.TorsoName),
)
def test_every_torso(torso, obs):
    network = networks.action_value(3, HEAD, torso=torso, hidden=(8,), dueling=True, layer_norm=True)
    out = jax.jit(lambda: network.apply(network.init(KEY, obs), obs))()
    assert out.shape == (2, 3, 5)
    assert jnp.isfinite(out).all()
    assert jnp.abs(out[0] - out[1]).max() > 0


@pytest.mark.parametrize("torso", typing.get_args(networks.TorsoName))
def test_every_torso_scales_bytes(torso):
    obs = images(2, 20, 20, 4, dtype=jnp.uint8)
    network = networks.action_value(3, HEAD, torso=torso, hidden=(8,))
    params = network.init(KEY, obs)
    np.testing.assert_allclose(
        network.apply(params, obs), network.apply(params, obs / 255.0), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("torso", typing.get_args(networks.TorsoName))
def test_layers_in_bfloat16_learn_float32_parameters(torso):
    obs = images(2, 36, 36, 4, dtype=jnp.uint8)
    shape = {"torso": torso, "hidden": (32,), "dueling": True, "layer_norm": True}
    many, few = (networks.action_value(3, HEAD, **shape, precision=one) for one in ("float32", "bfloat16"))
    params = jax.jit(many.init)(KEY, obs)
    products = re.findall(r"dot_general.*|convolution.*", jax.jit(few.apply).lower(params, obs).as_text())
    assert products and all("bf16" in product and "f32" not in product for product in products)

    def learnt(network):
        def loss(params):
            out = network.apply(params, obs)
            return jnp.square(out - 1).sum(), out

        return jax.jit(jax.grad(loss, has_aux=True))(params)

    (wanted, wanted_out), (found, out) = learnt(many), learnt(few)
    assert {x.dtype for x in jax.tree.leaves((found, out))} == {jnp.dtype("float32")}
    assert 0 < jnp.abs(out - wanted_out).max() < 0.05 * jnp.abs(wanted_out).max()
    found, wanted = (jax.flatten_util.ravel_pytree(tree)[0] for tree in (found, wanted))
    assert found @ wanted > 0.99 * jnp.linalg.norm(found) * jnp.linalg.norm(wanted)


@pytest.mark.parametrize("shape", [(7,), (5, 3, 7)])
def test_gradients_of_a_dense_layer(shape):
    layer = networks.Dense(4, "he_normal")
    x, g = jax.random.normal(KEY, shape), jax.random.normal(jax.random.key(1), (*shape[:-1], 4))
    params = layer.init(KEY, x)["params"]

    def ours(params, x):
        return (layer.apply({"params": params}, x) * g).sum()

    def plain(params, x):
        return ((x @ params["kernel"] + params["bias"]) * g).sum()

    found, wanted = (jax.grad(f, (0, 1))(params, x) for f in (ours, plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, wanted)


def test_dueling_advantages_have_no_mean():
    network = networks.action_value(3, HEAD, hidden=(8,), dueling=True)
    streams = network.init(KEY, OBS)["params"]
    advantage, value = (streams[f"_Stream_{i}"] for i in range(2))
    assert advantage["Dense_1"]["bias"].shape == (15,)
    assert value["Dense_1"]["bias"].shape == (5,)
    out = network.apply({"params": streams}, OBS)
    no_value = streams | {"_Stream_1": jax.tree.map(jnp.zeros_like, value)}
    np.testing.assert_allclose(network.apply({"params": no_value}, OBS).mean(1), 0, atol=1e-6)
    lifted = advantage | {"Dense_1": advantage["Dense_1"] | {"bias": jnp.full(15, 3.0)}}
    np.testing.assert_allclose(
        network.apply({"params": streams | {"_Stream_0": lifted}}, OBS), out, atol=1e-5
    )


@pytest.mark.parametrize("hidden", [(16,), (16, 8, 12)])
def test_values_with_slopes_are_those_of_differentiating_twice(hidden):
    keys = jax.random.split(jax.random.key(0), 5)
    network = networks.vector(1, hidden=hidden, init="fan_in_uniform")
    obs, action = jax.random.normal(keys[0], (7, 4)), jax.random.normal(keys[1], (7, 2))
    params = network.init(keys[2], obs, action)
    of_values, of_slopes = jax.random.normal(keys[3], (7,)), jax.random.normal(keys[4], (7, 6))

    def at_once(params, obs, action):
        out, slopes = network.with_slopes(params, obs, action)
        return (of_values * out[:, 0]).sum() + (of_slopes * slopes).sum(), (out, slopes)

    def apart(params, obs, action):
        out, slopes_of = jax.vjp(lambda *inputs: network.apply(params, *inputs), obs, action)
        slopes = jnp.concatenate(slopes_of(jnp.ones_like(out)), axis=-1)
        return (of_values * out[:, 0]).sum() + (of_slopes * slopes).sum(), (out, slopes)

    found, wanted = (
        jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(params, obs, action)
        for loss in (at_once, apart)
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), found, wanted)


@pytest.mark.parametrize(
    ("outputs", "options"), [(2, {}), (1, {"layer_norm": True}), (1, {"blocks": "simba"})]
)
def test_only_plain_networks_of_one_output_know_their_slopes(outputs, options):
    assert networks.vector(outputs, hidden=(8, 8), **options).with_slopes is None


def test_layer_norm_forgets_the_scale_of_its_input():
    def ratio(layer_norm):
        network = networks.action_value(3, HEAD, hidden=(64,), layer_norm=layer_norm)
        params = network.init(KEY, OBS)
        return network.apply(params, 10 * OBS) / network.apply(params, OBS)

    np.testing.assert_allclose(ratio(True), 1, rtol=1e-2)
    np.testing.assert_allclose(ratio(False), 10, rtol=1e-2)


def test_layer_norm_before_each_hidden_activation_beside_a_stock():
    """The layer that the stock modulates has two: of its features, and of what it modulates."""
    stock = networks.StockInput(dimensions=1, bound=4.0, num_bumps=5)
    obs = Stocked(OBS, jnp.ones((4, 1)))
    found = {}
    for layer_norm in (False, True):
        network = networks.action_value(3, HEAD, hidden=(8, 6), layer_norm=layer_norm, stock=stock)
        params = network.init(KEY, obs)
        found[layer_norm] = [scale.shape for scale in leaves(params, "scale")]
    assert found == {False: [], True: [(8,), (8,), (6,)]}


@pytest.mark.parametrize("dueling", [False, True])
def test_implicit_quantiles_come_before_their_fractions(dueling):
    head = heads.make("iqn", num_fractions=6)
    network = networks.action_value(3, head, hidden=(8,), dueling=dueling, num_cosines=4, acting_fractions=5)
    params = network.init(KEY, OBS)
    acting, drawn, again = (network.apply(params, OBS, key) for key in (None, KEY, KEY))
    np.testing.assert_allclose(
        acting[..., 5:], np.broadcast_to([0.1, 0.3, 0.5, 0.7, 0.9], (4, 3, 5)), rtol=1e-6
    )
    assert drawn.shape == (4, 3, head.size)
    np.testing.assert_array_equal(drawn, again)
    quantiles, fractions = jnp.split(drawn, 2, -1)
    assert ((fractions > 0) & (fractions < 1)).all()
    np.testing.assert_array_equal(fractions[:, 0], fractions[:, 2])  # One draw for all actions.
    assert len(np.unique(fractions[:, 0])) == 24  # And one for each observation.
    assert (jnp.diff(quantiles, axis=-1) != 0).all()


SCHEMES = {  # Variance times fan-in at equal fans, whether uniform, and the biases' bound.
    "xavier_uniform": (1.0, True, 0.0),
    "he_normal": (2.0, False, 0.0),
    "lecun_normal": (1.0, False, 0.0),
    "third_uniform": (3**-0.5, True, 0.0),
    "fan_in_uniform": (1 / 3, True, 1.0),
}


@pytest.mark.parametrize(
    ("layer", "x", "fan_in"),
    [
        (lambda scheme: networks.Dense(400, scheme), jnp.zeros((1, 400)), 400),
        (lambda scheme: networks.Conv(40, 4, 4, scheme), jnp.zeros((1, 4, 4, 40)), 640),
    ],
    ids=["dense", "conv"],
)
@pytest.mark.parametrize("scheme", typing.get_args(networks.InitName))
def test_initial_values(scheme, layer, x, fan_in):
    variance, uniform, bias_bound = SCHEMES[scheme]
    params = layer(scheme).init(KEY, x)["params"]
    kernel, bias = params["kernel"], params["bias"] * fan_in**0.5
    np.testing.assert_allclose(kernel.var() * fan_in, variance, rtol=0.03)
    bound = (3 * variance / fan_in) ** 0.5
    assert (jnp.abs(kernel).max() <= bound) == uniform
    assert jnp.abs(kernel).max() > 0.99 * bound
    assert bias_bound * 0.9 <= jnp.abs(bias).max() <= bias_bound


@pytest.mark.parametrize("name", heads.NAMES)
def test_a_last_scale_of_zero_gives_zero(name):
    network = networks.action_value(3, heads.make(name), hidden=(8,), last_scale=0.0, init="fan_in_uniform")
    out = network.apply(network.init(KEY, OBS), OBS)
    assert (out[..., : out.shape[-1] // (2 if name == "iqn" else 1)] == 0).all()


def test_last_scale_scales():
    def out(last_scale):
        network = networks.action_value(3, HEAD, last_scale=last_scale, init="fan_in_uniform")
        return network.apply(network.init(KEY, OBS), OBS)

    np.testing.assert_allclose(out(0.1), 0.1 * out(1.0), atol=1e-6)


@pytest.mark.parametrize("options", [{"torso": "resnet"}, {"init": "zeros"}])
def test_unknown_names_are_refused(options):
    with pytest.raises(ValueError, match="is not one of"):
        networks.action_value(3, HEAD, **options)
