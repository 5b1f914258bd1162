"""Models of an environment's dynamics: their options, and what `model_fitting` left of them in a folder."""

from pathlib import Path
from typing import Annotated, NamedTuple

import jax
from pydantic import Field, model_validator

import envs
from envs import terminal_rules
from valuelearn import checkpoint, config, dynamics, logs
from valuelearn.config import Misfit, Section
from valuelearn.dynamics import Model
from valuelearn.types import EnvSpec, FunctionalEnv, Network


class ModelConfig(Section):
    """A model of the dynamics, after Yu et al. (2020) and Sims et al. (2024).

    Unlike theirs it has standardised targets and bounds of log-variances for each member; and its steps fall
    to nothing over 200 epochs at most, where the code of Sims et al. has at least 350 and at most 2,000.
    """

    dataset: str
    """What to fit it to, in any format that `valuelearn dataset info` reads."""
    env: str = "mujoco/Hopper-v5"
    """The environment that the dataset is of, by its id: one whose ends are declared."""
    members: Annotated[int, Field(gt=0)] = 7
    """Networks, each fitted to a bootstrap sample."""
    elites: Annotated[int, Field(gt=0)] = 5
    """Networks that are kept, those best on held-out transitions."""
    hidden: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1)] = (200, 200, 200, 200)
    """Units of each hidden layer."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Step size of Adam in the first epoch; it falls evenly, to nothing after the last."""
    batch_size: Annotated[int, Field(gt=0)] = 256
    """Transitions of an update, for each member its own."""
    weight_decay: tuple[Annotated[float, Field(ge=0)], ...] = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)
    """Share of the weights of each layer, the last one's too, that is added to their gradient."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the transitions that is not learnt from, and judges."""
    patience: Annotated[int, Field(gt=0)] = 5
    """Epochs without a better member before fitting ends."""
    most_epochs: Annotated[int, Field(gt=0)] = 200
    """Epochs over which steps become smaller, and after which fitting ends in any case."""
    open_loop_steps: Annotated[int, Field(gt=0)] = 20
    """Steps that the report has the model go on its own."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Fixes every random number."""

    @model_validator(mode="after")
    def _consistent(self) -> "ModelConfig":
        if self.elites > self.members:
            raise Misfit("elites", self.elites, f"at most members = {self.members} is wanted", "members")
        if len(self.weight_decay) != len(self.hidden) + 1:
            reason = f"{len(self.hidden) + 1} numbers are wanted, one for each layer of hidden and the last"
            raise Misfit("weight_decay", list(self.weight_decay), reason, "hidden")
        try:
            envs.check(self.env)
            terminal_rules.rule(self.env)
        except envs.UnknownEnvironmentError as error:
            raise Misfit("env", self.env, str(error)) from error
        return self


class Fitted(NamedTuple):
    """A model that can be asked."""

    config: ModelConfig
    network: Network
    model: Model


def load(folder: Path) -> Fitted:
    """The model that `model_fitting.fit` left in a folder.

    Raises:
        RunFolderError, ConfigError, CheckpointError: where it is not such a folder.
    """
    if not (folder / "config.yaml").is_file():
        raise logs.RunFolderError(f"{folder}: there is no model in it; valuelearn model fits one")
    cfg = config.load(ModelConfig, folder / "config.yaml")
    spec = spec_of(cfg.env)
    network = dynamics.network(spec.obs_shape[0], cfg.hidden)
    sizes = spec.obs_shape[0], spec.action_size
    like = jax.eval_shape(lambda key: dynamics.unfitted(network, *sizes, cfg.elites, key), jax.random.key(0))
    return Fitted(cfg, network, checkpoint.restore_params(folder / "model", like))


def spec_of(env_id: str) -> EnvSpec:
    """The shapes of an environment."""
    env = envs.make(env_id, num_envs=1)
    if not isinstance(env, FunctionalEnv):
        env.close()
    return env.spec
