"""`valuelearn doctor`: what is there is good, what is not is said with its mending."""

import re

import jax
import packaging.requirements
import pytest

from agents import doctor
from valuelearn import devices


def test_this_machine_trains(call, monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_X64", "1")  # Which the run in a process of its own does not heed.
    said = call("doctor").splitlines()
    assert not [line for line in said if line.startswith("wrong")]
    for text in (
        "Python 3.",
        "jax 0.",
        "cpu (cpu)",
        "mujoco/ environments: mujoco",
        "ROMs of",
        "Atari games",
    ):
        assert any(line.startswith("good ") and text in line for line in said), text
    assert said[-1].startswith("good   the quick config trains: 16384 frames in ")


def test_a_quick_config_that_does_not_train(call, monkeypatch, tmp_path):
    (tmp_path / "quick.yaml").write_text("env: {id: minatar/outbreak}")
    monkeypatch.setattr(doctor, "QUICK", tmp_path / "quick.yaml")
    monkeypatch.setattr(doctor, "_draws", lambda *_: True)  # Tried above.
    said = call("doctor", code=1).splitlines()
    assert (
        "wrong  the quick config does not train: valuelearn: " in said[-1] and "minatar/outbreak" in said[-1]
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("numpy >= 99", "numpy is 2.*; >=99 is wanted"),
        ("no-such-package >= 1", "no-such-package is not installed"),
    ],
)
def test_packages_that_are_not_as_wanted(monkeypatch, text, found):
    monkeypatch.setattr(doctor, "_requirements", lambda: [packaging.requirements.Requirement(text)])
    wrong, _ = doctor._packages()
    assert wrong.verdict == "wrong" and re.fullmatch(found, wrong.text)
    assert wrong.mend.startswith("pip install '")


def test_settings_that_go_badly_with_training(monkeypatch):
    assert not list(doctor._settings())
    monkeypatch.setenv("JAX_DISABLE_JIT", "1")
    (mark,) = doctor._settings()
    assert (
        mark.verdict == "lacks"
        and "nothing is compiled" in mark.text
        and mark.mend == "unset JAX_DISABLE_JIT"
    )


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    before = jax.config.jax_compilation_cache_dir
    try:
        for folder, verdict, text in (
            (None, "lacks", "are not kept"),
            (tmp_path / "file" / "cache", "lacks", "cannot be kept in"),
            (tmp_path / "cache", "good", "0.00 GiB so far"),
        ):
            jax.config.update("jax_compilation_cache_dir", folder and str(folder))
            (mark,) = doctor._cache()
            assert mark.verdict == verdict and text in mark.text
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_drawing_that_fails(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nothing")
    monkeypatch.setattr(doctor, "_draws", lambda name, renderer: renderer == "osmesa")
    robots, classic = doctor._rendering()
    assert robots.verdict == classic.verdict == "lacks"
    assert "(MUJOCO_GL nothing)" in robots.text and robots.mend == "export MUJOCO_GL=osmesa"
    assert not doctor._draws("NoSuch-v0", None)


def test_memory_within_a_container(monkeypatch, tmp_path):
    """Of 10 GiB 9 are held, 2 of them files that can be let go of. (Files as a container has them.)"""
    whole = devices.free_host_bytes()
    gib = 2**30
    monkeypatch.setattr(devices, "_CGROUP", tmp_path)
    (tmp_path / "memory.current").write_text(f"{9 * gib}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {2 * gib}\nactive_file 7\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert devices.free_host_bytes() == pytest.approx(whole, rel=0.2)
    (tmp_path / "memory.max").write_text(f"{10 * gib}\n")
    assert devices.free_host_bytes() == 3 * gib
