"""What every test module shares."""

import warnings

import hypothesis
import jax
import pytest

with warnings.catch_warnings():  # rlax, an oracle of ours, rests on packages that lag behind JAX.
    warnings.simplefilter("ignore")
    import rlax  # noqa: F401

jax.config.update("jax_num_cpu_devices", 2)  # For even numbers of seeds to be spread over.

# No deadline: a first call compiles. No chance: a failure on one machine is a failure on all.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="module")
def quick_compilation():
    """Compile without most optimisations: where little is computed, that halves the time of tests."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
