"""From YAML and arguments to a config: what is read, in which order, and how strictly."""

import json
from pathlib import Path
from typing import Annotated

import pydantic
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agents.experiment_config import ExperimentConfig
from agents.parts import NetworkConfig
from valuelearn import config
from valuelearn.config import ConfigError, Section

FILES = sorted((Path(__file__).parent.parent / "agents" / "configs").rglob("*.yaml"))


class Inner(Section):
    """A group."""

    whole: Annotated[int, pydantic.Field(ge=0)] = 1
    number: float = 0.5
    flag: bool = False
    text: str = "a"
    maybe: float | None = None
    several: tuple[int, ...] = (1, 2)


class Outer(Section):
    """A schema of every kind of field."""

    inner: Inner = Inner(whole=7)
    other: Inner | None = None


@pytest.fixture
def write(tmp_path):
    """Files of that text under the test's folder; gives the path of the last."""

    def write(**texts):
        for name, text in texts.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        return tmp_path / f"{name}.yaml"

    return write


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_config_survives_a_round_trip(path, write):
    cfg = config.load(ExperimentConfig, path)
    again = config.load(ExperimentConfig, write(again=config.dump(cfg)))
    assert again == cfg
    assert config.dump(again) == config.dump(cfg)


def test_an_empty_file_means_the_defaults(write):
    for text in ("", "# nothing\n"):
        assert config.load(ExperimentConfig, write(a=text)) == ExperimentConfig()


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("number", "1e-3", 1e-3),
        ("number", "1", 1.0),
        ("number", "-2.5", -2.5),
        ("whole", "3_000_000", 3_000_000),
        ("flag", "true", True),
        ("text", "'1'", "1"),
        ("text", "a=b", "a=b"),
        ("maybe", "null", None),
        ("maybe", "", None),
        ("maybe", "2", 2.0),
        ("several", "[3, 4, 5]", (3, 4, 5)),
        ("several", "[]", ()),
    ],
)
def test_values_in_a_file_and_in_an_argument(write, key, text, value):
    from_file = config.load(Outer, write(a=f"inner:\n  {key}: {text}"))
    from_argument = config.load(Outer, write(a="inner: {maybe: 9}"), [f"inner.{key}={text}"])
    for found in (from_file, from_argument):
        found = getattr(found.inner, key)
        assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("whole", "true"),
        ("whole", "'1'"),
        ("whole", "1.0"),
        ("whole", "1e3"),
        ("whole", "null"),
        ("number", "'1'"),
        ("number", "true"),
        ("number", ".inf"),
        ("number", "1" + "0" * 400),
        ("flag", "1"),
        ("flag", "'true'"),
        ("text", "1"),
        ("several", "3"),
        ("several", "[1, x]"),
        ("several", "{a: 1}"),
    ],
)
def test_nothing_is_converted(write, key, text):
    with pytest.raises(ConfigError, match=rf"a.yaml, line 2: inner.{key}\S* is .* wanted"):
        config.load(Outer, write(a=f"inner:\n  {key}: {text}"))


def test_arguments_beat_the_file_and_later_ones_earlier_ones(write):
    path = write(a="inner: {whole: 2, number: 3, text: b}")
    cfg = config.load(Outer, path, ["inner.whole=3", "inner={number: 4, flag: true}", "inner.whole=5"])
    assert cfg.inner == Inner(whole=5, number=4.0, flag=True, text="b")
    with pytest.raises(ConfigError, match=r"argument 'inner=\{whole: -1\}': inner.whole is -1"):
        config.load(Outer, path, ["inner.whole=3", "inner={whole: -1}", "inner.text=c"])


def test_a_section_given_in_part_keeps_its_owners_defaults(write):
    assert config.load(Outer, write(a="inner: {number: 2}")).inner == Inner(whole=7, number=2.0)
    assert config.load(Outer, write(a="other: {number: 2}")).other == Inner(number=2.0)
    path = write(a="env: {num_envs: 4}\nagent: {name: pqn}")
    cfg = config.load(ExperimentConfig, path, ["agent.network.hidden=[64]"])
    assert cfg.agent.network == NetworkConfig(torso="minatar", hidden=(64,), layer_norm=True)
    assert config.load(ExperimentConfig, write(a="agent: {gamma: 0.5}")).agent.name == "dqn"


def test_bases_lie_below_and_mistakes_are_placed_in_the_right_file(write):
    first, second = "inner:\n  whole: 2\n  number: 2", "base: first.yaml\ninner: {number: 3}"
    path = write(first=first, second=second, third="base: second.yaml\n\ninner:\n  text: c")
    assert config.load(Outer, path).inner == Inner(whole=2, number=3.0, text="c")
    for name, text, place in (
        ("first", first.replace("whole: 2", "whole: -2"), "first.yaml, line 2: inner.whole is -2"),
        ("second", second.replace("3", "x"), 'second.yaml, line 2: inner.number is "x"'),
        ("first", first + "\n  txet: a", "first.yaml, line 4: unknown key 'inner.txet'; did you mean 'text'"),
    ):
        with pytest.raises(ConfigError, match=place):
            config.load(
                Outer, write(**{"first": first, "second": second, name: text}).with_name("third.yaml")
            )


def test_bases_that_lead_nowhere(write):
    with pytest.raises(ConfigError, match=r'b.yaml, line 1: base is "a.yaml": this file is based on itself'):
        config.load(Outer, write(b="base: a.yaml", a="base: b.yaml"))
    with pytest.raises(
        ConfigError, match=r'line 2: base is "aa.yaml": there is no .*; did you mean .*/a.yaml'
    ):
        config.load(Outer, write(a="", b="inner: {}\nbase: aa.yaml"))
    with pytest.raises(ConfigError, match="unknown key 'base'"):
        config.load(Outer, write(a=""), ["base=a.yaml"])


def test_anchors_are_placed_where_they_are_written(write):
    text = "inner: &x\n  whole: 3\nother:\n  <<: *x\n  number: 2"
    assert config.load(Outer, write(a=text)).other == Inner(whole=3, number=2.0)
    with pytest.raises(ConfigError, match=r"a.yaml, line 2: inner.whole is -3"):
        config.load(Outer, write(a=text.replace("3", "-3")))


def test_what_shows_after_loading_is_placed_too(write):
    path = write(a="inner:\n  whole: 3")
    misfit = config.Misfit("inner.number", 0.5, "less than inner.whole / 9 is wanted", "inner.whole")
    place = r"a.yaml, line 2: inner.number is 0.5; less than"
    with pytest.raises(ConfigError, match=place) as error, config.placing(path, ["inner.text=b"]):
        raise misfit
    assert error.value.__cause__ is misfit


@pytest.mark.parametrize(
    ("text", "arguments", "place"),
    [
        ("agent:\n  name: pqn", ["agent.network.hidden=[8]"], "a.yaml, line 1: agent.minibatches is 16"),
        ("agent:\n  name: pqn", ["env.num_envs=3"], "argument 'env.num_envs=3': agent.minibatches is 16"),
        ("agent:\n  name: pqn\nenv:\n  num_envs: 3", [], "a.yaml, line 4: agent.minibatches is 16"),
        ("", ["train.seed.x=3"], "argument 'train.seed.x=3': train.seed is {\"x\": 3}"),
        (
            "agent:\n  replay: {}",
            ["agent.name=pqn"],
            "a.yaml, line 2: unknown key 'agent.replay' of agent 'pqn'",
        ),
        ("agent: {name: dqn, dqn: 1}", [], "line 1: unknown key 'agent.dqn' of agent 'dqn'"),
    ],
)
def test_the_place_is_where_the_mend_belongs(write, text, arguments, place):
    with pytest.raises(ConfigError) as error:
        config.load(ExperimentConfig, write(a=text), arguments)
    assert place in str(error.value)


def test_every_key_is_documented():
    def undocumented(section, prefix):
        for name, field in section.model_fields.items():
            if not field.description:
                yield f"{prefix}{name}"
            for inner in config._sections(field.annotation):
                assert inner.__doc__
                yield from undocumented(inner, f"{prefix}{name}.")

    assert list(undocumented(ExperimentConfig, "")) == []


def test_configs_are_frozen():
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        ExperimentConfig().train.seed = 3


KEYS = (
    "env id agent name dqn pqn head hl_gauss head_options v_min v_max network hidden replay capacity n_step"
)
WORDS = st.sampled_from([*KEYS.split(), "munchausen", "gamma", "train", "seed", "base"])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | WORDS
    | st.text(max_size=5)
    | st.sampled_from(
        ["${train.seed}", "${x}", "${", "???", "gym/CartPole-v1", "!!int x", "&a [*a]", "<<", "'"]
    )
)
TREES = st.recursive(
    LEAVES,
    lambda tree: st.lists(tree, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), tree, max_size=4),
    max_leaves=12,
)


def spell(tree):
    """A tree as YAML, more or less: its texts are not quoted, and so may be anything."""
    match tree:
        case dict():
            return "{" + ", ".join(f"{key}: {spell(value)}" for key, value in tree.items()) + "}"
        case list():
            return f"[{', '.join(map(spell, tree))}]"
    return json.dumps(tree) if tree is None or isinstance(tree, bool) else str(tree)


def loads_or_refuses(text, arguments, path):
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    try:
        cfg = config.load(ExperimentConfig, path, arguments)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
        assert str(path) in str(error) or "argument" in str(error)
        return
    path.write_text(config.dump(cfg))
    assert config.load(ExperimentConfig, path) == cfg


@given(tree=TREES, arguments=st.lists(st.tuples(st.lists(WORDS, max_size=3), TREES), max_size=2))
@example({"agent": {"name": "dqn", "dqn": 1}}, [])
@example({"train": {"seed": "0x" + "f" * 5000}}, [])
@example({"train": {"seed": "9" * 5000}}, [])
@example({"agent": {"name": ["dqn"]}}, [])
@example({"train": "!!timestamp x"}, [(["train"], "!!bool x")])
def test_fuzz(tmp_path_factory, tree, arguments):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    spelt = [f"{'.'.join(key)}={spell(value)}" for key, value in arguments]
    loads_or_refuses(spell(tree), spelt, path)


@given(text=st.text(max_size=40), arguments=st.lists(st.text(max_size=12), max_size=2))
@example("", ["a[=1"])
@example("", ["[=1"])
@example("", ["train.seed=\udcff"])
@example("env: {id: \u2028}", ["env.id='a\nb'"])
def test_fuzz_of_text(tmp_path_factory, text, arguments):
    loads_or_refuses(text, arguments, tmp_path_factory.getbasetemp() / "fuzz.yaml")
