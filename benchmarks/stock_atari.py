"""How near one network comes to any final score that is asked of it, in Atari's Pong.

    python -m benchmarks.stock_atari [--runs runs/stock] [--out benchmarks/results/stock/atari_pong]

As `benchmarks.stock_pong`, with the agent of `agents/configs/atari/stock_dqn_pong.yaml`, one seed, and eight
fresh games for each of the 42 differences. Its two million frames are about what two CPU cores manage in two
hours, and a hundredth of what agents of Atari are usually given, so there is no bar.
"""

from benchmarks import stock_agents, stock_pong

_EPISODES = 8


def main() -> None:
    """Measure and write."""
    arguments = stock_agents.arguments(__doc__, "atari_pong", seeds=1)
    config = "atari/stock_dqn_pong.yaml"
    misses, seconds = stock_pong.measure(config, "atari_pong", arguments, _EPISODES)
    print(f"mean |difference - g| over 42 targets: {misses.mean():.2f}; {seconds:.0f} s of training")


if __name__ == "__main__":
    main()
