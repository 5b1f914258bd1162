"""Arguments refused in one sentence, before arrays broadcast into something that nobody asked for.

Of arrays only types and shapes are looked at. Both are known while a function is traced, so nothing of a
check is compiled.
"""

import numbers
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_KINDS: dict[type, str] = {
    np.number: "real numbers",
    np.integer: "whole numbers",
    np.floating: "floating-point numbers",
}


def array(
    name: str,
    given: Any,
    *axes: Any,
    over: tuple[int, ...] | None = None,
    grows: bool = False,
    least: int = 1,
    kind: type = np.number,
    error: type[ValueError] = ValueError,
) -> Any:
    """The array that was given, where its type and axes are as wanted; a list or a number as one of numpy's.

    Args:
        name: what the sentence calls it.
        given: the array.
        axes: sizes, names of axes of any size from `least`, and `...` for any axes.
        over: what the axes that `...` stands for broadcast to.
        grows: whether they may also be more than that, as long as they broadcast with it.
        least: see `axes`.
        kind: `np.number`, `np.integer` or `np.floating`; booleans are none of them.
        error: what is raised.

    Raises:
        ValueError: saying what was found and what is wanted.
    """
    if not hasattr(given, "dtype"):
        try:
            given = np.asarray(given)
        except jax.errors.TracerArrayConversionError:
            given = jnp.asarray(given)
        except ValueError:
            raise error(f"{name} has rows of several lengths; an array of {_KINDS[kind]} is wanted") from None
    if not jnp.issubdtype(given.dtype, kind) or jnp.issubdtype(given.dtype, np.complexfloating):
        found = getattr(given.dtype, "name", given.dtype)
        raise error(f"{name} is an array of {found}; {_KINDS[kind]} are wanted")
    shape, free = given.shape, ... in axes
    first = axes.index(...) if free else len(axes)
    last = len(shape) - len(axes[first + 1 :])
    fits = first <= last if free else len(shape) == len(axes)
    for size, axis in zip(shape[:first] + shape[last:], axes[:first] + axes[first + 1 :], strict=False):
        fits = fits and (size >= least if isinstance(axis, str) else size == axis)
    if not fits or (over is not None and not _broadcasts(shape[first:last], over, grows)):
        shown = [axis for axis in axes if axis is not ... or over != () or grows]
        wanted = _shape(shown) + (f" of {least} or more" if least > 1 else "") + " is wanted"
        if over:
            wanted += f", where ... broadcasts {'with' if grows else 'to'} {_shape(over)}"
        raise error(f"{name} has the shape {_shape(shape)}; {wanted}")
    return given


def law(returns: Any, probabilities: Any) -> tuple[Any, Any]:
    """Returns [..., N] and probabilities [..., N] of laws, either of which several may share.

    Raises:
        ValueError: as `array`.
    """
    returns = array("returns", returns, ..., "N")
    *leading, atoms = returns.shape
    return returns, array("probabilities", probabilities, ..., atoms, over=tuple(leading), grows=True)


def number(
    name: str,
    given: Any,
    wanted: str = "a number",
    fits: Callable[[Any], bool] = lambda _: True,
    error: type[ValueError] = ValueError,
) -> None:
    """Refuse what is no real number, or none that fits; of one that JAX holds the value is not looked at.

    Raises:
        ValueError: saying what was found and what is `wanted`.
    """
    if not (isinstance(given, jax.Array) and given.shape == ()):
        _check(name, given, wanted, numbers.Real, fits, error)


def count(
    name: str,
    given: Any,
    least: int | None = 1,
    most: int | None = None,
    error: type[ValueError] = ValueError,
) -> None:
    """Refuse what is no whole number from `least` to `most`, where there are such ends.

    Raises:
        ValueError: saying what was found and what is wanted.
    """
    ends = ("" if least is None else f" from {least}") + ("" if most is None else f" to {most}")

    def fits(n: int) -> bool:
        return (least is None or least <= n) and (most is None or n <= most)

    _check(name, given, f"a whole number{ends}", numbers.Integral, fits, error)


def _check(
    name: str, given: Any, wanted: str, kind: type, fits: Callable[[Any], bool], error: type[ValueError]
) -> None:
    plain = given.item() if getattr(given, "shape", None) == () else given
    if not isinstance(plain, kind) or isinstance(plain, bool) or not fits(plain):
        raise error(f"{name} is {' '.join(repr(plain).split())}; {wanted} is wanted")


def _shape(axes: Iterable[Any]) -> str:
    return f"[{', '.join('...' if axis is ... else str(axis) for axis in axes)}]"


def _broadcasts(leading: tuple[int, ...], over: tuple[int, ...], grows: bool) -> bool:
    try:
        together = np.broadcast_shapes(leading, over)
    except ValueError:
        return False
    return grows or together == over
