"""Double DQN with an HL-Gauss head in plain JAX: of valuelearn it takes the head and an environment."""

import jax
import jax.numpy as jnp
import optax

import envs
from valuelearn import backups, heads

GAMMA, COPIES, ROWS, BATCH, STEPS = 0.99, 16, 2_000, 128, 3_000
env = envs.make("classic/cartpole", num_envs=COPIES)
head = heads.make("hl_gauss", v_min=-5.0, v_max=110.0, num_bins=51)
optimizer = optax.adam(5e-4)


def init(key):
    sizes = (*env.spec.obs_shape, 128, 128, env.spec.num_actions * head.size)
    layers = zip(jax.random.split(key, 3), sizes[:-1], sizes[1:], strict=True)
    return [(jax.random.normal(key, (n, m)) * n**-0.5, jnp.zeros(m)) for key, n, m in layers]


def network(params, obs):  # [B, 4] -> [B, A, N]
    for weights, bias in params[:-1]:
        obs = jax.nn.relu(obs @ weights + bias)
    weights, bias = params[-1]
    return (obs @ weights + bias).reshape(-1, env.spec.num_actions, head.size)


def loss(params, target_params, obs, action, reward, discount, next_obs):
    each = jnp.arange(BATCH)
    best = head.value(network(params, next_obs)).argmax(-1)
    next_out = network(target_params, next_obs)[each, best]
    target = jax.vmap(lambda out, r, d: head.target(out, backups.summed(r, d)))(next_out, reward, discount)
    return head.loss(network(params, obs)[each, action], target).mean()


def step(carry, now):
    params, target_params, opt_state, env_state, obs, replay = carry
    row, key = now
    keys = jax.random.split(key, 4)
    chance = jax.random.uniform(keys[0], COPIES) < jnp.maximum(1 - row / 1_000, 0.05)
    other = jax.random.randint(keys[1], COPIES, 0, env.spec.num_actions)
    action = jnp.where(chance, other, head.value(network(params, obs)).argmax(-1))
    env_state, seen = env.step(env_state, action, keys[2])
    # `discount` is 0 where the pole fell, and 1 where only the time was over: that is bootstrapped.
    new = (obs, action, seen.reward, GAMMA * seen.discount, seen.next_obs)
    replay = jax.tree.map(lambda held, x: held.at[row % ROWS].set(x), replay, new)
    drawn = jax.random.randint(keys[3], BATCH, 0, jnp.minimum(row + 1, ROWS) * COPIES)
    batch = jax.tree.map(lambda held: held[drawn // COPIES, drawn % COPIES], replay)
    changes, opt_state = optimizer.update(jax.grad(loss)(params, target_params, *batch), opt_state)
    params = optax.apply_updates(params, changes)
    target_params = optax.periodic_update(params, target_params, row, 100)
    ended = (seen.last.sum(), jnp.where(seen.last, seen.episode_return, 0.0).sum())
    return (params, target_params, opt_state, env_state, seen.obs, replay), ended


init_key, env_key, key = jax.random.split(jax.random.key(0), 3)
params, (env_state, obs) = init(init_key), env.init(env_key)
number = jnp.zeros((ROWS, COPIES))
replay = (jnp.zeros((ROWS, *obs.shape)), number.astype(int), number, number, jnp.zeros((ROWS, *obs.shape)))
carry = (params, params, optimizer.init(params), env_state, obs, replay)
train = jax.jit(lambda carry, xs: jax.lax.scan(step, carry, xs))
_, (episodes, returns) = train(carry, (jnp.arange(STEPS), jax.random.split(key, STEPS)))
for part in range(0, STEPS, 500):
    now = slice(part, part + 500)
    print(f"steps {part * COPIES:6,}: mean return {returns[now].sum() / episodes[now].sum():5.1f}")
