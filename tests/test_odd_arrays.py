"""Arrays that nobody would give on purpose: each is answered by the shape that is documented, or refused.

What is right is written down here a second time, as shapes like "*B 5": any leading axes, which broadcast
together, and five numbers. `pytest --hypothesis-profile=storm tests/test_odd_arrays.py` makes fifty times as
many of them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.odd import DTYPES, NO_NUMBERS, NOTHING, SHAPES, few, made, told
from valuelearn import backups, ensembles, heads, objectives, projections, return_scale, stats, supports
from valuelearn.stocks import Stocks
from valuelearn.types import Timestep, Trajectory

pytestmark = pytest.mark.usefixtures("quick_compilation")

NO_ARRAYS = [None, "three", {}, [[1.0], [1.0, 2.0]], object()]


class Case(NamedTuple):
    """How a function is called, the shapes of its arguments, and that of what it returns."""

    call: object
    arguments: dict
    result: object  # Sizes by name to a shape, or several.
    floating: tuple = ()  # Arguments that must have fractions.
    plain: tuple = ()  # Arguments of which only the shape is odd: others' functions take them.


HEADS = {
    name: heads.make(name, v_min=-1, v_max=1, num_bins=5, num_quantiles=4, num_fractions=2)
    for name in heads.NAMES
}


def of_head(name):
    head = HEADS[name]
    free = {"qr": "N", "iqn": "N%2"}.get(name, str(head.size))  # Quantiles are read however many they are.
    scalar = name in ("mse", "huber", "mse_softmax")
    target = "M" if name in ("qr", "iqn") else "" if scalar else str(head.size)
    fitted = {"": lambda **_: (), "M": lambda **e: (e["N"] // (2 if name == "iqn" else 1),)}.get(
        target, lambda **_: (head.size,)
    )
    atoms = {"qr": lambda N, **_: N, "iqn": lambda N, **_: N // 2}.get(name, lambda **_: head.size)
    cases = {
        "value": Case(head.value, {"out": f"*B {free}"}, lambda B, **_: B),
        "atoms": Case(head.atoms, {"out": f"*B {free}"}, lambda B, **e: [(*B, atoms(**e))] * 2),
        "mix": Case(
            head.mix,
            {"out": f"*B A {free[:1] if name in ('qr', 'iqn') else free}", "policy": "*B A"},
            lambda B, N=head.size, **_: (*B, N),
        ),
        "target": Case(
            lambda next_out, reward: head.target(next_out, backups.summed(reward, 0.9)),
            {"next_out": free, "reward": ""},
            fitted,
            plain=("reward",),
        ),
        "backed_up": Case(
            lambda next_out, discount: heads.backed_up(head, next_out, backups.summed(0.1, discount)),
            {"next_out": free, "discount": ""},
            lambda **e: [(atoms(**e) if head.distributional else 1,)] * 2,
            plain=("discount",),
        ),
        "loss": Case(
            head.loss,
            {"out": f"*B {free if name == 'iqn' else head.size}", "target": f"<B {target}"},
            lambda B, **_: B,
        ),
        "readable": Case(head.readable, {"returns": "*B"}, lambda B: B),
        "support_fit": Case(
            lambda returns, probabilities: heads.support_fit(head, returns, probabilities),
            {"returns": "*B N", "probabilities": "*B N"},
            lambda **_: [()] * 3,
        ),
        "encode": Case(
            getattr(head, "encode", None), {"value": "*B"}, lambda B: B if scalar else (*B, head.size)
        ),
    }
    return {f"{name}.{method}": case for method, case in cases.items() if case.call is not None}


def added(reward):
    """Into a memory that scales rewards, three copies of an environment."""
    memory = return_scale.scaled(NOTHING, 3, 0.9, 10.0)
    flags = jnp.zeros(np.shape(reward), bool)
    step = Timestep(None, None, reward, None, flags, flags, None)
    return memory.add(memory.init(), Trajectory(None, None, step)).returns.running


COMPILED = {
    "hl_gauss": Case(
        projections.hl_gauss, {"targets": "*B", "edges": "N>1", "sigma": ""}, lambda B, N: (*B, N - 1)
    ),
    "hl_gauss_within": Case(
        projections.hl_gauss_within,
        {"targets": "*B", "edges": "N>1", "sigma": ""},
        lambda B, N: (*B, N - 1),
    ),
    "two_hot": Case(projections.two_hot, {"targets": "*B", "locations": "N>1"}, lambda B, N: (*B, N)),
    "categorical": Case(
        projections.categorical,
        {"returns": "*B M", "probabilities": "*B M", "locations": "N>1"},
        lambda B, M, N: (*B, N),
    ),
    "clipped_mass": Case(
        supports.clipped_mass,
        {"returns": "*B N", "probabilities": "*B N", "low": "", "high": ""},
        lambda **_: (2,),
    ),
    **{name: case for head in heads.NAMES for name, case in of_head(head).items()},
    "subset": Case(
        lambda out: ensembles.subset(out, 1, jax.random.key(0)), {"out": "K *B"}, lambda K, B: (1, *B)
    ),
    **{
        f"together {rule}": Case(
            lambda out, rule=rule: ensembles.together(HEADS["c51"], out, rule), {"out": "K 5"}, lambda K: (5,)
        )
        for rule in ("lowest", "mean")
    },
    "truncated": Case(lambda out: ensembles.truncated(out, 0), {"out": "K N"}, lambda K, N: (K * N,)),
    "alignment": Case(ensembles.alignment, {"gradients": "K>1 *B D>0"}, lambda K, B, D: B),
    "scaled": Case(added, {"reward": "T 3"}, lambda T: (3,)),
}

UTILITIES = {
    "Mean": objectives.Mean(),
    "TwoSlope": objectives.TwoSlope(0.5, 2.0),
    "Squared": objectives.Squared(),
    "Threshold": objectives.Threshold(),
    "Exponential": objectives.Exponential(0.5),
}
VECTORS = {"Norm": (objectives.Norm(), "m"), "Constraint": (objectives.Constraint(2.0), "2")}
TAILS = objectives.Spectral([(0.5, 0.5), (1.0, 0.5)])
OUTER = {
    "CVaR": objectives.CVaR(0.5),
    "OptimisticCVaR": objectives.OptimisticCVaR(0.5),
    "MeanCVaR": objectives.MeanCVaR(0.5, 0.5),
    "Spectral": TAILS,
    "OCE": objectives.OCE(objectives.TwoSlope(0.5, 2.0)),
}
STOCKS = Stocks(0.9, 2, (-1.0, 0.0), 1.0, 10.0)
ANGLED = Stocks(0.9, 1, -1.0, 1.0, 10.0, (0.0, 1.0))
LAW = {"returns": "*B N", "probabilities": "*B N"}
OF_ONE = {"returns": "*B N", "probabilities": "<B N"}  # Laws may share probabilities, but not returns.
# Of JAX and of numpy.
EITHER = {
    **{f"{n}.score": Case(u.score, LAW | {"stock": "*B"}, lambda B, N: B) for n, u in UTILITIES.items()},
    **{n: Case(u, {"x": "*B"}, lambda B: B) for n, u in UTILITIES.items()},
    **{
        f"{n}.score": Case(
            u.score,
            {"returns": f"*B N {m}", "probabilities": "*B N", "stock": f"*B {m}"},
            lambda B, **_: B,
        )
        for n, (u, m) in VECTORS.items()
    },
    **{n: Case(u, {"x": f"*B {m}"}, lambda B, **_: B) for n, (u, m) in VECTORS.items()},
    "WeightedTails": Case(TAILS.utility, {"x": "*B 2"}, lambda B: B),
    **{
        f"{n}.score": Case(o.score, OF_ONE, lambda B, N: B, ("probabilities",) if n == "OCE" else ())
        for n, o in OUTER.items()
    },
    **{
        f"{n}.stock": Case(
            o.stock, OF_ONE, lambda B, N, n=n: (*B, 2) if n == "Spectral" else B, ("probabilities",)
        )
        for n, o in OUTER.items()
    },
    "first": Case(STOCKS.first, {"uniform": "*B 2"}, lambda B: (*B, 2), ("uniform",)),
    "anywhere": Case(ANGLED.anywhere, {"uniform": "*B 2"}, lambda B: (*B, 3), ("uniform",)),
    "after": Case(STOCKS.after, {"carried": "*B 2", "reward": "after"}, lambda B: (*B, 2)),
}
SCORES = {"scores": "*B R T"}
HOSTED = {
    "interquartile_mean": Case(stats.interquartile_mean, SCORES, lambda B, R, T: B),
    "mean": Case(stats.mean, SCORES, lambda B, R, T: B),
    "median": Case(stats.median, SCORES, lambda B, R, T: B),
    "optimality_gap": Case(stats.optimality_gap, SCORES, lambda B, R, T: B),
}


def sizes(case, shapes):
    """The sizes that arguments of these shapes agree on; None where they do not."""
    found = {}
    for name, pattern in case.arguments.items():
        shape = shapes[name]
        if pattern == "after":  # A scalar reward, or as many coordinates as there are of the stock.
            pattern = "<B 2" if len(shape) > len(found["B"]) else "<B"
        axes = pattern.split()
        star = next((at for at, axis in enumerate(axes) if axis[0] in "*<"), None)
        free = len(shape) - len(axes) + 1 if star is not None else 0
        if free < 0 or (star is None and len(shape) != len(axes)):
            return None
        if star is not None:
            grows, group = axes[star][0] == "*", axes[star][1:]
            try:
                together = np.broadcast_shapes(shape[star : star + free], found.get(group, ()))
            except ValueError:
                return None
            if not grows and together != found[group]:
                return None
            found[group] = together
            axes = [*axes[:star], *[None] * free, *axes[star + 1 :]]
        for size, axis in zip(shape, axes, strict=True):
            if axis is None:
                continue
            if axis.isdigit():
                if size != int(axis):
                    return None
            elif size <= int((axis + ">0").split(">")[1]) or size % int((axis + "%1").split("%")[1]):
                return None
            if not axis.isdigit() and found.setdefault(axis[0], size) != size:
                return None
    return found


@st.composite
def fitting(draw, case):
    """Shapes that go together."""
    leading = draw(st.lists(st.integers(1, 3), max_size=2).map(tuple))
    named, shapes = {}, {}
    for name, pattern in case.arguments.items():
        shape = ()
        for axis in (draw(st.sampled_from(["<B", "<B 2"])) if pattern == "after" else pattern).split():
            if axis[0] in "*<":
                whole = pattern == "after" or name == next(iter(case.arguments))
                shape += leading if whole else leading[draw(st.integers(0, len(leading))) :]
            elif axis.isdigit():
                shape += (int(axis),)
            else:
                shape += (named.setdefault(axis[0], 2 * draw(st.integers(1, 2))),)
        shapes[name] = shape
    return shapes


@st.composite
def drawn(draw, case):
    """Arguments, up to two of which are odd, by name."""
    shapes = draw(fitting(case))
    dtypes = dict.fromkeys(shapes, "float32")
    given = {}
    for name in draw(st.lists(st.sampled_from(sorted(shapes)), max_size=2)):
        how = draw(st.sampled_from(["dtype", "shape", "one axis", "axes", "list", "other"]))
        if how == "shape":
            shapes[name] = draw(SHAPES)
        elif how == "one axis" and shapes[name]:
            at = draw(st.integers(0, len(shapes[name]) - 1))
            shapes[name] = (*shapes[name][:at], draw(st.integers(0, 5)), *shapes[name][at + 1 :])
        elif how == "axes":
            shapes[name] = draw(st.sampled_from([(1, *shapes[name]), (*shapes[name], 1), shapes[name][1:]]))
        elif name not in case.plain:
            if how == "dtype":
                dtypes[name] = draw(st.sampled_from(DTYPES + NO_NUMBERS))
            elif how == "list":
                dtypes[name] = "list"
            elif how == "other":
                given[name] = draw(st.sampled_from(NO_ARRAYS))
    arrays = {name: made(shapes[name], dtypes[name]) for name in shapes}
    return arrays | given


def expected(case, arguments):
    """The shapes of what is returned, or None where an argument is to be refused."""
    for name, one in arguments.items():
        if not hasattr(one, "dtype") and not isinstance(one, float | list):
            return None
        if isinstance(one, list) and any(one is odd for odd in NO_ARRAYS):
            return None
        kind = getattr(one, "dtype", np.dtype(float))
        if name == "scores" and kind == np.dtype(bool):  # Successes and failures.
            continue
        if not jnp.issubdtype(kind, np.floating) and (name in case.floating or kind.kind not in "iu"):
            return None
    shapes = {name: one.shape if hasattr(one, "shape") else np.shape(one) for name, one in arguments.items()}
    found = sizes(case, shapes)
    if found is None:
        return None
    result = case.result(**found)
    return result if isinstance(result, list) else [result]


def answered_or_refused(case, arguments, run):
    wanted = expected(case, arguments)
    if wanted is None:
        with pytest.raises(ValueError) as refusal:
            run(case.call, arguments)
        told(str(refusal.value), case.arguments)
    else:
        found = jax.tree.leaves(run(case.call, arguments))
        assert [tuple(np.shape(one)) for one in found] == [tuple(shape) for shape in wanted]


def listed(one):
    return np.array(one, np.float32) if isinstance(one, list) and one not in NO_ARRAYS else one


def traced(call, arguments):
    """Only the shapes of what comes out: nothing is compiled. Lists are arrays here, as what is traced is."""
    arguments = {name: listed(one) for name, one in arguments.items()}
    arrays = {
        name: jax.ShapeDtypeStruct(one.shape, jax.dtypes.canonicalize_dtype(one.dtype))
        for name, one in arguments.items()
        if hasattr(one, "dtype") and (one.dtype == jnp.bfloat16 or one.dtype.kind in "biufc")
    }
    return jax.eval_shape(lambda arrays: call(**(arguments | arrays)), arrays)


def on_the_host(call, arguments):
    return call(**arguments)


@pytest.mark.parametrize("name", COMPILED | EITHER)
@few
@given(data=st.data())
def test_arrays_of_jax(name, data):
    case = (COMPILED | EITHER)[name]
    answered_or_refused(case, data.draw(drawn(case)), traced)


@pytest.mark.parametrize("name", EITHER | HOSTED)
@few
@given(data=st.data())
def test_arrays_of_numpy(name, data):
    case = (EITHER | HOSTED)[name]
    answered_or_refused(case, data.draw(drawn(case)), on_the_host)


NAN = jnp.array([0.5, jnp.nan])
NAN_IN = {
    "hl_gauss": lambda: projections.hl_gauss(NAN, jnp.arange(4.0), 0.5),
    "hl_gauss_within": lambda: projections.hl_gauss_within(NAN, jnp.arange(4.0), 0.5),
    "two_hot": lambda: projections.two_hot(NAN, jnp.arange(4.0)),
    "categorical": lambda: projections.categorical(NAN, jnp.ones(2) / 2, jnp.arange(4.0)),
    **{
        f"{n}.score": lambda o=o: o.score(NAN, jnp.ones(2) / 2)
        for n, o in UTILITIES.items()
        if n != "Threshold"
    },
    **{f"{n}.score": lambda o=o: o.score(NAN, jnp.ones(2) / 2) for n, o in OUTER.items() if n != "OCE"},
    **{
        f"{name}.{method}": lambda head=head, method=method: getattr(head, method)(
            jnp.full(head.size, 0.5).at[0].set(jnp.nan)
        )
        for name, head in HEADS.items()
        for method in ("value", "atoms")
    },
    **{
        f"{name}.loss": lambda head=head: head.loss(
            jnp.full(head.size, 0.5),
            head.target(jnp.full(head.size, 0.5).at[0].set(jnp.nan), backups.summed(0.1, 0.9)),
        )
        for name, head in HEADS.items()
    },
}


@pytest.mark.parametrize("name", NAN_IN)
def test_what_is_no_number_stays_none(name):
    """Nothing is put in the place of a NaN."""
    assert any(jnp.isnan(one).any() for one in jax.tree.leaves(jax.jit(NAN_IN[name])()))


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_scores_are_finite(odd):
    for statistic in (stats.interquartile_mean, stats.mean, stats.median, stats.optimality_gap):
        with pytest.raises(ValueError, match="scores holds"):
            statistic(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, odd]]))
    with pytest.raises(ValueError, match="matrices holds"):
        stats.interval(stats.mean, np.full((3, 1), odd))
    with pytest.raises(ValueError, match="frames go from 0 to 1; ascending ones are wanted"):
        stats.area_under_curve([0, 2, 1], [1, 1, 1])
