"""Configs that nobody would write: each is built, or refused in one sentence.

`pytest --hypothesis-profile=storm tests/test_fuzzed_configs.py` makes 10,000 and more of them.
"""

from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from agents import experiment, models, solving
from agents.experiment_config import ExperimentConfig
from benchmarks import study, supervised
from valuelearn import config
from valuelearn.errors import UserError
from valuelearn.types import FunctionalEnv

ROOT = Path(__file__).parent.parent
SCHEMAS = {
    "agents/configs": ExperimentConfig,
    "agents/processes": solving.SolveConfig,
    "agents/dynamics": models.ModelConfig,
    "benchmarks/studies": study.StudyConfig,
    "benchmarks/studies/supervised": supervised.SupervisedConfig,
}
SHIPPED = [
    (path, schema) for folder, schema in SCHEMAS.items() for path in sorted((ROOT / folder).glob("*.yaml"))
] + [(path, ExperimentConfig) for path in sorted((ROOT / "agents/configs").glob("*/**/*.yaml"))]
TEXTS = [path.read_text() for path, _ in SHIPPED]
# What stands where something else is wanted.
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([10**9, 10**30, -(10**30), 2**31, 2**63, 0.5, -1e-300, 1e300]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["dqn", "mse", "c51", "minatar/breakout", "../../x", "${agent.gamma}", "${", "1e400"]),
    st.lists(st.integers(-2, 70), max_size=3),
    st.dictionaries(st.sampled_from(["name", "v_min", "x"]), st.integers(-2, 2), max_size=2),
)


JUNK = [
    ": ",
    "\n",
    "\t",
    "- ",
    "{",
    "}",
    "[",
    "&a",
    "*a",
    "---\n",
    "%",
    "\x00",
    "!!python/object/apply:os.abort []",
]


def paths(tree, before=()):
    """Every place in a tree of mappings and lists."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield (*before, key)
            yield from paths(value, (*before, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield (*before, index)
            yield from paths(value, (*before, index))


def changed(tree, place, how, value):
    """Something in a tree replaced, taken away, renamed or added."""
    *above, last = place
    parent = tree
    for key in above:
        parent = parent[key]
    if how == "replace":
        parent[last] = value
    elif how == "add" and isinstance(parent, dict):
        parent[str(value)[:20]] = value
    elif how == "rename" and isinstance(parent, dict):
        parent[f"{last}s"] = parent.pop(last)
    else:
        del parent[last]


@st.composite
def mutated(draw):
    """A shipped file with up to four changes, its schema, and arguments over it."""
    index = draw(st.integers(0, len(SHIPPED) - 1))
    tree = yaml.safe_load(TEXTS[index])
    for _ in range(draw(st.integers(0, 4))):
        places = list(paths(tree))
        if places:
            how = draw(st.sampled_from(["replace", "replace", "take away", "rename", "add"]))
            changed(tree, draw(st.sampled_from(places)), how, draw(ODD))
    key = st.one_of(
        st.sampled_from([".".join(map(str, place)) for place in paths(tree)] or ["x"]), st.text(max_size=6)
    )
    arguments = draw(st.lists(st.builds("{}={}".format, key, ODD), max_size=2))
    return yaml.safe_dump(tree), SHIPPED[index][1], arguments


@st.composite
def scribbled(draw):
    """The text of a shipped file with something else in its middle."""
    index = draw(st.integers(0, len(SHIPPED) - 1))
    text = TEXTS[index]
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(start + 30, len(text))))
    junk = draw(st.one_of(st.text(max_size=10), st.sampled_from(JUNK)))
    return text[:start] + junk + text[end:], SHIPPED[index][1], []


def built_or_refused(tmp_path_factory, case):
    text, schema, arguments = case
    file = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        with config.placing(file, arguments):
            made = config.load(schema, file, arguments)
    except UserError as error:
        sentence = str(error)
        assert "\n" not in sentence and 10 < len(sentence) < 1500, sentence
        assert str(file) in sentence or sentence.startswith("argument "), sentence
        return None
    return made


@given(case=mutated())
def test_a_changed_config(tmp_path_factory, case):
    built_or_refused(tmp_path_factory, case)


@given(case=scribbled())
def test_a_scribbled_config(tmp_path_factory, case):
    built_or_refused(tmp_path_factory, case)


SMALL = [
    "minatar/dqn_hl_gauss.yaml",
    "classic/sac_pendulum.yaml",
    "grid/stock_dqn_cliff.yaml",
    "minatar/pqn_hl_gauss.yaml",
]


@st.composite
def asked(draw):
    """A shipped experiment and numbers that are odd, but not out of the question, for some of its keys."""
    path = draw(st.sampled_from(SMALL))
    tree = yaml.safe_load((ROOT / "agents/configs" / path).read_text())
    leaves = [place for place in paths(tree) if not isinstance(config_value(tree, place), dict | list)]
    number = st.one_of(st.integers(0, 12), st.sampled_from([0.1, 0.5, 0.99, 1.0, 64, 1000, True, False]))
    for place in draw(st.lists(st.sampled_from(leaves), max_size=3)):
        changed(tree, place, "replace", draw(number))
    return yaml.safe_dump(tree), ExperimentConfig, []


def config_value(tree, place):
    for key in place:
        tree = tree[key]
    return tree


@given(case=asked())
def test_what_is_loaded_can_be_built(tmp_path_factory, case):
    """Or the mistake is told before anything is trained."""
    made = built_or_refused(tmp_path_factory, case)
    if made is None:
        return
    try:
        built = experiment.make(made)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(built.env, FunctionalEnv)


def test_the_fuzz_begins_at_good_configs(tmp_path_factory):
    """Where nothing is changed they are loaded, but for those that lean on files beside them."""
    cases = zip(TEXTS, SHIPPED, strict=True)
    good = [built_or_refused(tmp_path_factory, (text, schema, [])) for text, (_, schema) in cases]
    assert sum(one is not None for one in good) > 30
