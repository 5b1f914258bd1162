"""What training rests on in an environment, looked for while it is played: `valuelearn check-env`.

`single.py` looks at one gymnasium environment, `vector.py` at gymnasium's vector environments in every
autoreset mode, `steps.py` at the steps that agents here are given, of every kind of environment. gymnasium
has a checker, too; this one plays whole episodes, looks at how they end, and says all that it found.
"""

from envs.contract.report import check
from envs.contract.single import of_single
from envs.contract.steps import of_steps
from envs.contract.vector import of_vector

__all__ = ["check", "of_single", "of_steps", "of_vector"]
