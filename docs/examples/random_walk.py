"""A head on networks of two other libraries: the values of a random walk, by temporal differences.

The walk has five states and ends beyond either; 1 is paid at the right end alone (Sutton & Barto, 2018,
example 6.2), so that the states are worth 1/6, 2/6, ... 5/6. An equinox module and a flax.nnx module learn
them with the same head and the same loss: a head takes what a network gives, whatever the network is.
"""

import equinox
import jax
import jax.numpy as jnp
import optax
from flax import nnx

from valuelearn import backups, heads

STATES = 5
head = heads.make("hl_gauss", v_min=-0.5, v_max=1.5, num_bins=41)
true = (jnp.arange(STATES) + 1) / (STATES + 1)


def loss(out, next_out, to):  # What a network says of each state, and of each that followed: [B, N].
    reward = (to == STATES).astype(jnp.float32)
    discount = ((to >= 0) & (to < STATES)).astype(jnp.float32)
    target = jax.vmap(lambda out, r, d: head.target(out, backups.summed(r, d)))(next_out, reward, discount)
    return head.loss(out, target).mean()


def moves(key):  # A batch of states, and where the walk went from them.
    at_key, move_key = jax.random.split(key)
    at = jax.random.randint(at_key, 64, 0, STATES)
    return at, at + jnp.where(jax.random.bernoulli(move_key, shape=at.shape), 1, -1)


def say(library, values):
    print(
        library, " ".join(f"{value:.2f}" for value in values), f"largest error {abs(values - true).max():.3f}"
    )


features = jnp.eye(STATES)
keys = jax.random.split(jax.random.key(0), 600)


# With equinox: a module is a pytree.
def of_module(module, at, to):
    out = jax.vmap(module)(features[at])
    return loss(out, jax.vmap(module)(features[jnp.clip(to, 0, STATES - 1)]), to)


@equinox.filter_jit
def equinox_step(module, state, key):
    changes, state = optimizer.update(equinox.filter_grad(of_module)(module, *moves(key)), state)
    return equinox.apply_updates(module, changes), state


optimizer = optax.adam(1e-2)
module = equinox.nn.MLP(STATES, head.size, width_size=32, depth=1, key=jax.random.key(1))
state = optimizer.init(equinox.filter(module, equinox.is_array))
for key in keys:
    module, state = equinox_step(module, state, key)
say("equinox", head.value(jax.vmap(module)(features)))


# With flax.nnx: a module holds its arrays.
class Network(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(STATES, 32, rngs=rngs)
        self.last = nnx.Linear(32, head.size, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.hidden(x)))


@nnx.jit
def nnx_step(network, optimizer, key):
    at, to = moves(key)

    def of_network(network):
        return loss(network(features[at]), network(features[jnp.clip(to, 0, STATES - 1)]), to)

    optimizer.update(network, nnx.grad(of_network)(network))


network = Network(nnx.Rngs(1))
nnx_optimizer = nnx.Optimizer(network, optax.adam(1e-2), wrt=nnx.Param)
for key in keys:
    nnx_step(network, nnx_optimizer, key)
say("flax.nnx", head.value(network(features)))
