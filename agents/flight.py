"""The flight recorder: of an update that was not made, as it was not finite, what it was to be made of.

`record` leaves the learner before it, the experience and a note in RUN/flight; `replay_update` makes it once
more, operation by operation, and says where the first NaN or infinity arises.
"""

import functools
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from agents import experiment
from agents.experiment import Experiment
from valuelearn.checkpoint import CheckpointError, Checkpoints
from valuelearn.errors import UserError
from valuelearn.heads import SupportFit
from valuelearn.logs import RunFolderError
from valuelearn.loop import Chunk
from valuelearn.types import Agent

Say = Callable[[str], None]
FOLDER = "flight"
_PROJECT = Path(__file__).parent.parent


class NotFiniteError(UserError):
    """A run that stopped at a number that is not finite."""


class Flight(NamedTuple):
    """An update that was not made."""

    learner: Any  # As it was before.
    experience: Any  # What it was to learn from.


def not_finite(name: str, tree: Any) -> list[str]:
    """The arrays that hold NaN or infinities: `learner.params.head.bias (3 of 51 numbers)`."""
    found = []
    for path, leaf in jax.tree.leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and (bad := int((~np.isfinite(leaf)).sum())):
            within = jax.tree_util.keystr(path, simple=True, separator=".")
            whole = ".".join(filter(None, (name, within)))
            found.append(f"{whole} ({bad} of {leaf.size} numbers)" if leaf.ndim else f"{whole} ({leaf})")
    return found


def _found(agent: Agent, flight: Flight) -> list[str]:
    """What is not finite of an update, in the order in which it comes about; nothing where it can be made."""
    learnt, metrics, _ = jax.jit(agent.update)(flight.learner, flight.experience)
    if learnt.updates > flight.learner.updates:
        return []
    experienced = getattr(flight.experience, "transition", flight.experience)
    found = not_finite("experience", experienced) + not_finite("learner", flight.learner)
    # How targets fit a support is not known of heads that have none.
    of_update = {name: x for name, x in metrics.items() if name not in SupportFit._fields}
    found += not_finite("loss", of_update.pop("loss")) + not_finite("update", of_update)
    return found or ["a gradient"]


def _of_seed(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda x: x[index], tree)


def record(folder: Path, built: Experiment, chunk: Chunk, seeds: range, batched: bool) -> NotFiniteError:
    """Leave the update that a run stopped at in its folder; the error that says so.

    `batched` tells whether the learner's arrays have an axis of seeds.
    """
    agent = built.algorithm.agent
    learners = chunk.state.learner if batched else jax.tree.map(lambda x: x[None], chunk.state.learner)
    flights = [Flight(*_of_seed((learners, chunk.refused), index)) for index in range(len(seeds))]
    all_found = [_found(agent, flight) for flight in flights]
    # Alone it may be rounded otherwise, and be finite after all.
    index = next((index for index, found in enumerate(all_found) if found), 0)
    seed, flight, found = seeds[index], flights[index], all_found[index] or ["a number, beside other seeds,"]
    update = int(flight.learner.updates) + 1
    shutil.rmtree(folder / FOLDER, ignore_errors=True)  # Of the same update, reached once more.
    with Checkpoints(folder / FOLDER) as saved:
        saved.save(update, flight, {"seed": seed, "update": update, "found": found})
    return NotFiniteError(
        f"{folder}: update {update:,} of seed {seed} was not made: {found[0]} is not finite"
        f"{f', and {len(found) - 1} more' if len(found) > 1 else ''}; what was before it, and what it would "
        f"have learnt from, is in {folder / FOLDER}; see where it arises: valuelearn replay-update {folder}"
    )


def like(built: Experiment) -> Flight:
    """The shapes and types of an update's parts."""
    memory = built.algorithm.memory
    key = jax.eval_shape(jax.random.key, 0)
    return Flight(built.learner, jax.eval_shape(lambda key: memory.sample(memory.init(), key), key))


def replay_update(folder: Path, say: Say) -> None:
    """Make the update that a run stopped at once more, and say what of it is not finite, and from where.

    Raises:
        RunFolderError, ConfigError, CheckpointError: where the folder is not a run that stopped so.
    """
    cfg = experiment.load_run(folder)
    if not (folder / FOLDER).is_dir():
        raise RunFolderError(f"{folder}: there is no {FOLDER} folder: no update of this run was not finite")
    built = experiment.make(cfg)
    with Checkpoints(folder / FOLDER) as flights:
        saved = flights.restore(like(built))
    if saved is None:
        raise CheckpointError(f"{folder / FOLDER}: there is nothing in it")
    say(f"update {saved.notes['update']:,} of seed {saved.notes['seed']}")
    found = _found(built.algorithm.agent, saved.state)
    for text in found:
        say(f"not finite: {text}")
    if not found:
        say("made by itself it is finite: among others it was rounded otherwise")
    elif not found[0].startswith(("experience", "learner")):
        say(_origin(functools.partial(built.algorithm.agent.update, *saved.state)))


def _origin(update: Callable[[], Any]) -> str:
    """The operation that first gives a number that is not finite."""
    for kind, checks in (("NaN", jax.debug_nans), ("an infinity", jax.debug_infs)):
        try:
            with jax.disable_jit(), checks(True):
                update()
        except FloatingPointError as error:
            frames = [
                frame
                for frame in traceback.extract_tb(error.__traceback__)
                if Path(frame.filename).is_relative_to(_PROJECT) and "site-packages" not in frame.filename
            ]
            place = frames[-1]
            return f"{kind} first arises in {place.filename}:{place.lineno}, {place.name}: {place.line}"
    return "made operation by operation it gives none: compiled, it is rounded otherwise"
