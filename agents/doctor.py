"""What this machine has and lacks for training: `valuelearn doctor`.

What can take a process down with it, such as drawing without a display, is tried in one of its own.
"""

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import packaging.requirements

from envs import atari
from valuelearn.devices import free_bytes, free_host_bytes

QUICK = Path(__file__).parent / "configs" / "minatar" / "pqn_hl_gauss.yaml"
# The same programs' like, but a short one.
_SHORT = ("train.env_frames=16384", "train.log_frames=8192", "evaluation.episodes=0")
_PATIENCE = 600  # Seconds.
_GIB = 2**30
_RENDERERS = ("egl", "osmesa", "glfw")
Verdict = Literal["good", "lacks", "wrong"]


class Mark(NamedTuple):
    """One thing that was looked at."""

    verdict: Verdict  # What is lacking is wanted by some configs; what is wrong by all.
    text: str
    mend: str | None = None


def examine(say: Callable[[str], None]) -> bool:
    """Look at everything, a line each; whether a run of the quick config works here."""
    for part in (_python, _packages, _settings, _devices, _memory, _extras, _rendering, _cache):
        for mark in part():
            _tell(mark, say)
    last = _quick()
    _tell(last, say)
    return last.verdict == "good"


def _tell(mark: Mark, say: Callable[[str], None]) -> None:
    say(f"{mark.verdict:5}  {mark.text}")
    if mark.mend is not None:
        say(f"       mend it: {mark.mend}")


def _python() -> Iterator[Mark]:
    yield Mark("good", f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")


def _requirements() -> list[packaging.requirements.Requirement]:
    return [
        packaging.requirements.Requirement(text) for text in importlib.metadata.requires("valuelearn") or ()
    ]


def _packages() -> Iterator[Mark]:
    """The packages that everything needs, in the versions that it needs."""
    versions = []
    for wanted in _requirements():
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        if (mark := _missing(wanted)) is not None:
            yield Mark("wrong", *mark)
        else:
            versions.append(f"{wanted.name} {importlib.metadata.version(wanted.name)}")
    yield Mark("good", ", ".join(versions))


def _missing(wanted: packaging.requirements.Requirement) -> tuple[str, str] | None:
    """What is not as a requirement wants it, and how to mend it."""
    mend = f"pip install '{wanted.name}{wanted.specifier}'"
    try:
        found = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{wanted.name} is not installed", mend
    if not wanted.specifier.contains(found, prereleases=True):
        return f"{wanted.name} is {found}; {wanted.specifier} is wanted", mend
    return None


def _settings() -> Iterator[Mark]:
    """Settings of the process that are known to go badly with training."""
    for name, what in (
        ("JAX_DISABLE_JIT", "nothing is compiled, and training is slower by far"),
        ("JAX_DEBUG_NANS", "every operation is watched, which takes time; the guard is enough"),
    ):
        if os.environ.get(name, "").lower() in ("1", "true"):
            yield Mark("lacks", f"{name} is set: {what}", f"unset {name}")
    if jax.default_backend() == "gpu" and "cuda" in os.environ.get("LD_LIBRARY_PATH", "").lower():
        text = "LD_LIBRARY_PATH names a CUDA of its own, which may hide the one that JAX came with"
        yield Mark("lacks", text, "unset LD_LIBRARY_PATH")


def _devices() -> Iterator[Mark]:
    try:
        found = jax.devices()
        jnp.ones((8, 8)).sum().block_until_ready()
    except RuntimeError as error:
        yield Mark(
            "wrong", f"JAX finds no device: {' '.join(str(error).split())[:200]}", "look at JAX_PLATFORMS"
        )
        return
    yield Mark("good", f"{len(found)} x {found[0].device_kind} ({jax.default_backend()})")
    if jax.default_backend() == "cpu" and Path("/proc/driver/nvidia/version").exists():
        yield Mark(
            "lacks", "there is an NVIDIA GPU, and JAX does not use it", "pip install 'valuelearn[cuda]'"
        )


def _memory() -> Iterator[Mark]:
    text = f"{free_host_bytes() / _GIB:.1f} GiB of memory are free, {os.cpu_count()} cores are there"
    if jax.default_backend() != "cpu":
        text += f"; {free_bytes() / _GIB:.1f} GiB of the device's memory are free"
    yield Mark("good", text)


# What some configs want: the extra, the package that it is for, and what for.
_WANTED_BY_SOME = (
    ("fast", "gymnax", "minatar/ and classic/ environments"),
    ("atari", "ale-py", "atari/ environments"),
    ("mujoco", "mujoco", "mujoco/ environments"),
    ("offline", "h5py", "datasets"),
    ("cluster", "ray", "studies on a cluster"),
)


def _extras() -> Iterator[Mark]:
    versions = {wanted.name: wanted for wanted in _requirements() if wanted.marker}
    for extra, package, purpose in _WANTED_BY_SOME:
        wanted = versions.get(package, packaging.requirements.Requirement(package))
        if mark := _missing(wanted):
            yield Mark("lacks", f"{purpose}: {mark[0]}", f"pip install 'valuelearn[{extra}]'")
        else:
            yield Mark("good", f"{purpose}: {package} {importlib.metadata.version(package)}")
    if importlib.util.find_spec("ale_py"):
        yield _roms()


def _roms() -> Mark:
    found = atari.roms()
    gone = [game for game, there in found.items() if not there]
    if gone:
        text = f"ROMs of {len(gone)} of {len(found)} Atari games are gone, as {gone[0]}"
        return Mark("lacks", text, "pip install --force-reinstall ale-py")
    return Mark("good", f"ROMs of {len(found)} Atari games")


def _rendering() -> Iterator[Mark]:
    """Whether videos can be made; a renderer that finds no display may end its process."""
    if importlib.util.find_spec("mujoco"):
        chosen = os.environ.get("MUJOCO_GL")
        if _draws("Hopper-v5", chosen):
            yield Mark("good", f"robots can be drawn (MUJOCO_GL {chosen or 'not set'})")
        else:
            good = next((name for name in _RENDERERS if name != chosen and _draws("Hopper-v5", name)), None)
            mend = f"export MUJOCO_GL={good}" if good else "install EGL or OSMesa (libegl1, libosmesa6)"
            yield Mark("lacks", f"robots cannot be drawn for videos (MUJOCO_GL {chosen or 'not set'})", mend)
    if _draws("CartPole-v1", None):
        yield Mark("good", "gymnasium's classic control can be drawn")
    else:
        mend = "pip install 'gymnasium[classic-control]'"
        yield Mark("lacks", "gymnasium's classic control cannot be drawn for videos", mend)


def _draws(name: str, renderer: str | None) -> bool:
    code = f"import gymnasium; e = gymnasium.make({name!r}, render_mode='rgb_array'); e.reset(); e.render()"
    env = os.environ | ({"MUJOCO_GL": renderer} if renderer else {})
    return _run([sys.executable, "-c", code], env).returncode == 0


def _run(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, env=env, capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, -1, "", f"no answer within {_PATIENCE} s")


def _cache() -> Iterator[Mark]:
    """Where compiled programs are kept for the next run."""
    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if folder is None:
        yield Mark("lacks", "compiled programs are not kept", "set JAX_COMPILATION_CACHE_DIR to a folder")
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        mend = "set JAX_COMPILATION_CACHE_DIR to a folder that can be written"
        yield Mark("lacks", f"compiled programs cannot be kept in {folder} ({error.strerror})", mend)
        return
    size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    yield Mark("good", f"compiled programs are kept in {folder}, {size / _GIB:.2f} GiB so far")


def _quick() -> Mark:
    """A short run of the quick config, from the command line as a user's."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        command = [sys.executable, "-m", "valuelearn", "train", str(QUICK), *_SHORT, "--run", f"{folder}/run"]
        done = _run(command, dict(os.environ))
        seconds = time.perf_counter() - begun
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with exit code {done.returncode}"]
        return Mark("wrong", f"the quick config does not train: {lines[-1][:300]}")
    return Mark("good", f"the quick config trains: {_SHORT[0].partition('=')[2]} frames in {seconds:.0f} s")
