"""Value heads without reinforcement learning: one network fitted to targets that are noisy, or that move.

    python -m benchmarks.supervised STUDY.yaml [--out FOLDER]

`moving_target` follows the plasticity probe of Farebrother et al. (2024), figure 17, with small synthetic
images for CIFAR-10: level after level the same network must fit a new random function shifted by the level.
`noisy_targets` fits one function through Gaussian noise whose standard deviation is the level, anew each
time, and is judged where it has not trained, without the noise.

Writes `scores.csv`, a row per method, level and seed, and `errors.png`. All seeds run at once.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from pydantic import Field

from agents.parts import HeadConfig
from benchmarks import figures
from valuelearn import config, heads, logs, networks, stats
from valuelearn.config import Section
from valuelearn.errors import UserError
from valuelearn.types import Array

_IMAGE = 16  # Pixels along a side.
_READINGS = 20  # Of the error, while one level is fitted.


class MethodConfig(Section):
    """A head to compare."""

    head: Literal["mse", "huber", "mse_softmax", "two_hot", "hl_gauss"]
    """The head: one that models the mean."""
    head_options: HeadConfig = HeadConfig()
    """Its support and smoothing."""


class SupervisedConfig(Section):
    """A study of heads as regression losses."""

    title: str
    """What the study asks."""
    probe: Literal["moving_target", "noisy_targets"]
    """What is fitted; see the module."""
    levels: Annotated[tuple[float, ...], Field(min_length=1)]
    """Shifts of the target, one after the other, or standard deviations of its noise."""
    methods: Annotated[dict[str, MethodConfig], Field(min_length=1)]
    """The heads, by the names that they bear in the tables; each is compared with the first."""
    hidden: tuple[Annotated[int, Field(gt=0)], ...] = (512, 512)
    """Units of each hidden layer."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    """Step size of Adam."""
    batch_size: Annotated[int, Field(gt=0)] = 128
    """Examples in an update, drawn with replacement."""
    updates_per_level: Annotated[int, Field(gt=0, multiple_of=_READINGS)] = 1_500
    """Updates for each level; the error is read 20 times along them."""
    seeds: Annotated[int, Field(ge=stats.LEAST_RUNS)] = 5
    """Runs of each method, which share inputs, targets and first weights of hidden layers seed by seed."""


class Data(NamedTuple):
    """What one seed is fitted to, and judged by; L levels."""

    inputs: np.ndarray  # f32[P, X]
    targets: np.ndarray  # f32[L, P]
    test_inputs: np.ndarray  # f32[Q, X]
    test_targets: np.ndarray  # f32[L, Q]


def _random_network(chance: np.random.Generator, *sizes: int) -> Callable[[np.ndarray], np.ndarray]:
    """A random function of [P, X], by a tanh network."""
    weights = [chance.normal(size=(a, b)) / np.sqrt(a) for a, b in zip(sizes, (*sizes[1:], 1), strict=True)]

    def apply(x: np.ndarray) -> np.ndarray:
        for layer in weights[:-1]:
            x = np.tanh(2.0 * x @ layer)
        return (x @ weights[-1])[:, 0]

    return apply


def _images(chance: np.random.Generator, count: int) -> np.ndarray:
    """Images [count, 256] between 0 and 1 whose spectrum falls as 1 / f, as that of photographs does."""
    frequencies = np.hypot(np.fft.fftfreq(_IMAGE)[:, None], np.fft.fftfreq(_IMAGE)[None])
    frequencies[0, 0] = np.inf  # No mean.
    noise = np.fft.fft2(chance.normal(size=(count, _IMAGE, _IMAGE)))
    images = np.fft.ifft2(noise / frequencies).real.reshape(count, -1)
    images /= images.std(1, keepdims=True)
    return 1 / (1 + np.exp(-1.5 * images))


def moving_target(levels: tuple[float, ...], seed: int) -> Data:
    """1,024 images and sin(1e5 f(x)) + b, with a new random f for each shift b; judged where it trains."""
    chance = np.random.default_rng(seed)
    images = _images(chance, 1_024)
    targets = [np.sin(1e5 * _random_network(chance, _IMAGE**2, 64)(images)) + shift for shift in levels]
    data = images.astype(np.float32), np.array(targets, np.float32)
    return Data(*data, *data)


def noisy_targets(levels: tuple[float, ...], seed: int) -> Data:
    """2,000 examples of a random function of 16 Gaussians, of standard deviation 3; 4,000 to judge by."""
    chance = np.random.default_rng(seed)
    inputs, test_inputs = chance.normal(size=(2_000, 16)), chance.normal(size=(4_000, 16))
    function = _random_network(chance, 16, 64, 64)
    clean, test = function(inputs), function(test_inputs)
    scale = 3.0 / test.std()
    noise = chance.normal(size=clean.shape)
    targets = [scale * clean + level * noise for level in levels]
    tests = np.tile(scale * test, (len(levels), 1))
    arrays = (inputs, np.array(targets), test_inputs, tests)
    return Data(*(x.astype(np.float32) for x in arrays))


class Probe(NamedTuple):
    """A way to make fitting hard."""

    data: Callable[[tuple[float, ...], int], Data]  # Of levels and a seed.
    continues: bool  # One level's network goes on into the next.
    level: str  # What a level is.


PROBES = {
    "moving_target": Probe(moving_target, True, "shift of the target"),
    "noisy_targets": Probe(noisy_targets, False, "standard deviation of the noise"),
}


def errors(study: SupervisedConfig, method: MethodConfig) -> np.ndarray:
    """Mean squared errors f64[S, L, K] of a method's values: by seed and level, K times along each fit."""
    probe = PROBES[study.probe]
    head = cast(heads.MeanHead, method.head_options.make(method.head))
    network = networks.action_value(1, head, hidden=study.hidden, init="lecun_normal")
    optimizer = optax.adam(study.learning_rate)
    per_reading = study.updates_per_level // _READINGS

    def value(params: Any, inputs: Array) -> jax.Array:
        return head.value(network.apply(params, inputs)[:, 0])

    def loss(params: Any, inputs: jax.Array, targets: jax.Array) -> jax.Array:
        return head.loss(network.apply(params, inputs)[:, 0], head.encode(targets)).mean()

    def fit(key: jax.Array, data: Data) -> jax.Array:
        first_key, key = jax.random.split(key)
        params = network.init(first_key, data.inputs[:1])
        first = params, optimizer.init(params)

        def update(targets: jax.Array, state: tuple, key: jax.Array) -> tuple[tuple, None]:
            params, opt_state = state
            drawn = jax.random.randint(key, (study.batch_size,), 0, len(data.inputs))
            grads = jax.grad(loss)(params, data.inputs[drawn], targets[drawn])
            changes, opt_state = optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, changes), opt_state), None

        def level(state: tuple, inputs: tuple) -> tuple[tuple, jax.Array]:
            targets, test_targets, key = inputs

            def reading(state: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
                keys = jax.random.split(key, per_reading)
                state, _ = jax.lax.scan(lambda state, key: update(targets, state, key), state, keys)
                return state, jnp.square(value(state[0], data.test_inputs) - test_targets).mean()

            start = state if probe.continues else first
            return jax.lax.scan(reading, start, jax.random.split(key, _READINGS))

        keys = jax.random.split(key, len(study.levels))
        return jax.lax.scan(level, first, (data.targets, data.test_targets, keys))[1]

    seeds = range(study.seeds)
    data = jax.tree.map(lambda *x: np.stack(x), *(probe.data(study.levels, seed) for seed in seeds))
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    return np.asarray(jax.jit(jax.vmap(fit))(keys, data), np.float64)


def differences(study: SupervisedConfig, found: Mapping[str, np.ndarray]) -> Iterator[str]:
    """How far each method's errors f64[S, L] lie below those of the first, with 95 % bootstrap intervals."""
    (first, base), *others = found.items()
    for name, error in others:
        gain = base - error  # Seed by seed, as seeds share their data.
        intervals = [stats.interval(stats.mean, column[:, None]) for column in gain.T]
        line = "  ".join(
            f"{level:g}: {one.point:.4f} [{one.low:.4f}, {one.high:.4f}]"
            for level, one in zip(study.levels, intervals, strict=True)
        )
        yield f"{name}: error below that of {first} by, at {line}"


def run(study: SupervisedConfig, out: Path) -> None:
    """Fit every method; write the errors and their picture, and say them."""
    found = {}
    for name, method in study.methods.items():
        found[name] = errors(study, method)
        line = "  ".join(
            f"{level:g}: {final.mean():.4f} (best {best.mean():.4f})"
            for level, final, best in zip(
                study.levels, found[name][..., -1].T, found[name].min(-1).T, strict=True
            )
        )
        print(f"{name}: mean squared error at {line}", flush=True)
    for line in differences(study, {name: error[..., -1] for name, error in found.items()}):
        print(line)
    out.mkdir(parents=True, exist_ok=True)
    rows = [
        (name, f"{level:g}", seed, error[seed, place, -1], error[seed, place].min())
        for name, error in found.items()
        for place, level in enumerate(study.levels)
        for seed in range(study.seeds)
    ]
    header = ("method", "level", "seed", "final_squared_error", "least_squared_error")
    logs.write_table(out / "scores.csv", header, rows)
    logs.write_whole(out / "study.yaml", config.dump(study))
    curves = {name: (np.array(study.levels), error[..., -1]) for name, error in found.items()}
    figures.errors(out / "errors.png", PROBES[study.probe].level, curves)


def main() -> None:
    """Run one study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--out", type=Path, help="folder to write to; runs/NAME of the study where omitted")
    options = parser.parse_args()
    try:
        study = config.load(SupervisedConfig, options.study)
        run(study, options.out or Path("runs") / options.study.stem)
    except UserError as error:
        sys.exit(f"supervised: {error}")


if __name__ == "__main__":
    main()
