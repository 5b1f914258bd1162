"""What odd arguments of the library are made of, and how a refusal is judged."""

import hypothesis
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from valuelearn import dp
from valuelearn.types import Memory

few = hypothesis.settings(max_examples=hypothesis.settings.default.max_examples // 5)

DTYPES = ["float32"] * 6 + ["float64", "float16", "bfloat16", "int32", "uint8"]
NO_NUMBERS = ["bool", "complex64", "str", "object"]
SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)
NOTHING = Memory(lambda: 0, lambda state, trajectory: state, None, None)
TABLE = [[[(0.5, 1, 1.0), (0.5, 1, -1.0)], [(1.0, 0, 0.0)]], []]
COIN = dp.MDP.from_table(TABLE, 1.0, 2)
ODD_NUMBERS = st.one_of(
    st.sampled_from([None, True, "1", "x", 1j, [], [0.5], [1, 0], {}, np.ones(2), np.array("a")]),
    st.sampled_from([np.nan, np.inf, -1.0, 0.0, 0.5, 1.0, 2.5, 1e5, np.float32(0.5), np.int64(2)]),
    st.integers(-3, 6),
)


def made(shape, dtype):
    numbers = np.linspace(0.1, 0.9, int(np.prod(shape))).reshape(shape)
    if dtype == "list":
        return numbers.tolist()
    return numbers.astype({"bfloat16": jnp.bfloat16}.get(dtype, dtype))


def told(sentence, names):
    """The message is one sentence that names an argument."""
    assert "\n" not in sentence and 10 < len(sentence) < 300, sentence
    named = sentence.split()[0]  # `next_out` is the `out` of another.
    assert any(name in sentence or named in name.split("_") for name in names), sentence
