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
# Rewards of 0 to 1 for ever are worth up to 33.3: that much is known of values before anything is learnt.
_HIGHEST = 33.4


def _support(highest: float = _HIGHEST, bins: int = 21) -> str:
    return f"agent.head_options={{v_min: -1, v_max: {highest}, num_bins: {bins}, num_quantiles: {bins}}}"


_TEN = "agent.num_critics=10"
_TEN_UNLIKE = (_TEN, "agent.diversity=1.0")
HEADS = {
    f"{head}, {critics} critics": Case(agent=(f"agent.head={head}", _support(), *more))
    for critics, more in {"two": (), "ten unlike": _TEN_UNLIKE}.items()
    for head in ("mse", "hl_gauss", "c51", "qr")
}
_MEAN = ("agent.target_rule=mean", "agent.actor_rule=mean")
_HIGH = _support(3 * _HIGHEST, bins=61)
_C51 = ("agent.head=c51", _support())
MEND = {
    "mse, two critics": HEADS["mse, two critics"],
    "mse, ten critics": Case(agent=(_TEN,)),
    "mse, ten unlike critics": HEADS["mse, ten unlike critics"],
    "mse, ten unlike critics, their mean": Case(agent=(*_TEN_UNLIKE, *_MEAN)),
    "mse, ten critics a tenth as unlike": Case(agent=(_TEN, "agent.diversity=0.1")),
    "mse, ten critics ten times as unlike": Case(agent=(_TEN, "agent.diversity=10.0")),
    "c51, two critics": HEADS["c51, two critics"],
    "c51, two critics, their mean": Case(agent=(*_C51, *_MEAN)),
    "c51, two critics, support three times as high": Case(agent=("agent.head=c51", _HIGH)),
    "mse_softmax, two critics": Case(agent=("agent.head=mse_softmax", _support())),
    "mse_softmax, two critics, support three times as high": Case(agent=("agent.head=mse_softmax", _HIGH)),
    "c51, ten critics": Case(agent=(_TEN, *_C51)),
    "c51, ten unlike critics": HEADS["c51, ten unlike critics"],
    "hl_gauss, two critics": HEADS["hl_gauss, two critics"],
    "hl_gauss, two critics, 51 bins": Case(agent=("agent.head=hl_gauss", _support(bins=51))),
}
CRITICS = {
    f"mse, {name} critics": Case(agent=(f"agent.num_critics={count}",))
    for name, count in {"five": 5, "twenty": 20, "thirty": 30}.items()
}
TRUTH = (0.0, 0.5, 0.9, 1.0)
PESSIMISM: dict[str, tuple[str, tuple[str, ...]]] = {  # What is taken off rewards, and which critics.
    "none": ("penalty: 0", ()),
    "MOPO": ("penalty: 1", ()),
    "RAVL": ("penalty: 0", _TEN_UNLIKE),
    "c51": ("penalty: 0", _C51),
}
