"""How far two runs of one config are the same.

`bitwise`: in every bit, on one kind of device with the same versions. Random numbers are threefry's, products
are of whole float32s, and a GPU adds up in a fixed order. `statistical`: random numbers are the same, but
products are as precise as the device likes them, and sums may be added up in any order. `off`: random numbers
too are those that the device makes soonest, and no fingerprints are taken.
"""

import os
from typing import Literal

import jax

Level = Literal["bitwise", "statistical", "off"]
_FIXED_ORDER = "--xla_gpu_deterministic_ops=true"


def set_up(level: Level) -> None:
    """Have this process compute so; XLA reads its flags once, where its first array is made."""
    jax.config.update("jax_enable_x64", False)  # Whatever the shell's JAX_ENABLE_X64 says: runs are float32.
    jax.config.update("jax_default_prng_impl", "unsafe_rbg" if level == "off" else "threefry2x32")
    jax.config.update("jax_default_matmul_precision", "highest" if level == "bitwise" else None)
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if flag != _FIXED_ORDER]
    os.environ["XLA_FLAGS"] = " ".join([*flags, _FIXED_ORDER] if level == "bitwise" else flags)


def settings() -> dict[str, str]:
    """What this process computes with, as runs record it."""
    return {
        "prng": jax.config.jax_default_prng_impl,  # type: ignore[attr-defined]
        "matmul_precision": jax.config.jax_default_matmul_precision or "default",  # type: ignore[attr-defined]
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
