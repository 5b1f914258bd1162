"""The settings that `benchmarks.ravl` compares, by the names under which they are told and drawn."""

from typing import NamedTuple


class Case(NamedTuple):
    """How rollouts are made, and who learns in them."""

    steps: int = 10
    rollouts: tuple[str, ...] = ()  # More of `rollouts`, as `key: value`.
    agent: tuple[str, ...] = ()  # Overrides of the agent.

    @property
    def overrides(self) -> list[str]:
        """Of the config; the memory holds all rollouts, with a row for the end of each."""
        rollouts = f"rollouts={{{', '.join((f'steps: {self.steps}', *self.rollouts))}}}"
        return [rollouts, f"train.collect_steps={self.steps}", "agent.replay.capacity=240_000", *self.agent]


POINT = {
    "10 steps": Case(10),
    "10 steps, told at the edge": Case(10, ("patch: edge",)),
    "10 steps, told at random": Case(10, ("patch: random",)),
    "5 steps": Case(5),
    "20 steps": Case(20),
    "30 steps": Case(30),
}
# Rewards of 0 to 1 for ever are worth up to 33.3; entropies add little once the temperature has come down.
_SUPPORT = "agent.head_options={v_min: -2, v_max: 36, num_bins: 51}"
_TEN_UNLIKE = ("agent.num_critics=10", "agent.diversity=1.0")
HEADS = {
    f"{head}, {critics} critics": Case(agent=(f"agent.head={head}", _SUPPORT, *more))
    for critics, more in {"two": (), "ten unlike": _TEN_UNLIKE}.items()
    for head in ("mse", "hl_gauss", "c51", "qr")
}
_MEAN = ("agent.target_rule=mean", "agent.actor_rule=mean")
_HL_GAUSS = ("agent.head=hl_gauss", _SUPPORT)
MEND = {
    "mse, ten critics": Case(agent=("agent.num_critics=10",)),
    "mse, ten unlike critics, their mean": Case(agent=(*_TEN_UNLIKE, *_MEAN)),
    "mse, ten unlike critics": HEADS["mse, ten unlike critics"],
    "mse, ten critics ten times as unlike": Case(agent=("agent.num_critics=10", "agent.diversity=10.0")),
    "mse, thirty unlike critics": Case(agent=("agent.num_critics=30", "agent.diversity=1.0")),
    "mse, ten unlike critics of 256": Case(agent=(*_TEN_UNLIKE, "agent.network.hidden=[256, 256]")),
    "hl_gauss, two critics": HEADS["hl_gauss, two critics"],
    "hl_gauss, ten critics": Case(agent=("agent.num_critics=10", *_HL_GAUSS)),
    "hl_gauss, ten unlike critics": HEADS["hl_gauss, ten unlike critics"],
    "hl_gauss, ten unlike critics, their mean": Case(agent=(*_TEN_UNLIKE, *_HL_GAUSS, *_MEAN)),
}
TRUTH = (0.0, 0.5, 0.9, 1.0)
PESSIMISM: dict[str, tuple[str, tuple[str, ...]]] = {  # What is taken off rewards, and which critics.
    "none": ("penalty: 0", ()),
    "MOPO": ("penalty: 1", ()),
    "RAVL": ("penalty: 0", _TEN_UNLIKE),
    "RAVL, hl_gauss": ("penalty: 0", (*_HL_GAUSS, *_TEN_UNLIKE)),
}
