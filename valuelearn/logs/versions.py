"""What results depend on besides the config."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import jax

from valuelearn import determinism

_PACKAGES = (
    "valuelearn",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "gymnasium",
    "gymnax",
    "ale-py",
    "mujoco",
    "numpy",
)


def versions() -> dict[str, str]:
    """What the results depend on besides the config: packages, device, Python, git revision."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    found["git"] = _git_revision()
    found["python"] = platform.python_version()
    found["device"] = jax.devices()[0].device_kind
    found["backend"] = jax.default_backend()
    return found | determinism.settings()


def _git_revision() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    folder = Path(__file__).parent
    try:
        git = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError:  # No git here.
        return "unknown"
    return git.stdout.strip() or "unknown"
