"""From a YAML file and `key=value` arguments to a frozen, validated config.

A file may name another with `base:`, whose values it overrides. Every mistake is one
`ConfigError`, whose sentence names the file and line or the argument, the key, and a mend.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pydantic
import yaml
from omegaconf import OmegaConf

from valuelearn.errors import UserError, did_you_mean, no_such_path

Key = tuple[str, ...]


class ConfigError(UserError):
    """A mistake in a config, in one sentence for the person who made it."""


class Misfit(UserError):
    """A value that is well formed but impossible where it stands, for a reason that spans keys.

    Validators of a section raise it with keys relative to that section; `load`, and `placing` for
    what shows only later, turn it into a `ConfigError` that also names the place.
    """

    def __init__(self, key: str, found: Any, reason: str, *others: str) -> None:
        """`key` holds `found`; `others` are keys that had a part in it and may be the ones to mend."""
        super().__init__(f"{key} is {_quote(found)}; {reason}")
        self.found, self.reason = found, reason
        self.keys = [tuple(name.split(".")) for name in (key, *others)]


class Section(pydantic.BaseModel):
    """Base of every group of options: strict types, unknown keys fatal, never changed."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


SectionType = TypeVar("SectionType", bound=Section)


class _Layer(NamedTuple):
    """One source of values: a file, or one argument."""

    values: dict[str, Any]
    places: dict[Key, str]  # Where each key that it sets is set; a file as a whole is under ().
    above: dict[Key, str]  # The same for the groups around an argument's key.


def _quote(value: Any) -> str:
    try:
        text = json.dumps(value)
    except TypeError:  # Bytes and the like.
        text = repr(value)
    except ValueError:  # Python prints no more than 4,300 digits.
        text = "too large a number"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _lines(node: yaml.Node | None, prefix: Key = ()) -> dict[Key, int]:
    """The line on which each key, or item of a list, stands."""
    found: dict[Key, int] = {}
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            found[*prefix, str(index)] = item.start_mark.line + 1
            found |= _lines(item, (*prefix, str(index)))
    elif isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *anchor` gives way to the keys beside it.
                merged = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for source in merged:
                    found = _lines(source, prefix) | found
                continue
            key = (*prefix, str(key_node.value))
            found[key] = key_node.start_mark.line + 1
            found |= _lines(value_node, key)
    return found


def _plain(values: Any) -> Any:
    """The same with every key as text."""
    if isinstance(values, dict):
        return {str(name): _plain(value) for name, value in values.items()}
    return [_plain(value) for value in values] if isinstance(values, list) else values


def _parse(text: str, name: str) -> tuple[dict[str, Any], dict[Key, int]]:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None and not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{name}: a mapping of `key: value` is wanted, and this holds something else")
        return _plain(OmegaConf.to_container(OmegaConf.create(text))), _lines(root)
    except ConfigError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{name}{line}: not valid YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise ConfigError(f"{name}: not valid YAML: nested too deeply") from None
    except Exception as error:  # On malformed values the two parsers raise whatever comes.
        raise ConfigError(f"{name}: not valid YAML: {str(error).partition(chr(10))[0]}") from None


def _read(path: Path, origin: str, above: Sequence[Path] = ()) -> list[_Layer]:
    """The file's layer, after those of the files it is based on; `origin` opens the sentence on a mistake."""
    if path.resolve() in above:
        raise ConfigError(f"{origin}: this file is based on itself")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{origin}: {no_such_path(path)}") from None
    except IsADirectoryError:
        raise ConfigError(f"{origin}: a YAML file is wanted, and this is a folder") from None
    except OSError as error:
        raise ConfigError(f"{origin}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise ConfigError(f"{origin}: a YAML file is wanted, and this is not UTF-8 text") from None
    values, lines = _parse(text, str(path))
    layer = _Layer(values, {(): str(path)} | {key: f"{path}, line {line}" for key, line in lines.items()}, {})
    if "base" not in values:
        return [layer]
    base = values.pop("base")
    place = _place([layer], ("base",))
    if not isinstance(base, str):
        raise ConfigError(f"{place}: base is {_quote(base)}; the name of a file is wanted")
    below = _read(path.parent / base, f"{place}: base is {_quote(base)}", (*above, path.resolve()))
    return [*below, layer]


def _argument(text: str) -> _Layer:
    dotted, equals, value = text.partition("=")
    key = tuple(dotted.split("."))
    place = f"argument {text!r}"
    if not equals or not all(key):
        raise ConfigError(f"{place}: key=value is wanted, such as train.seed=1")
    try:
        node = yaml.compose(value, Loader=yaml.SafeLoader)
        values = _plain(OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"])))["value"]
    except Exception:  # As in `_parse`.
        raise ConfigError(f"{place}: {value!r} is not a YAML value") from None
    for name in reversed(key):
        values = {name: values}
    above = [key[:length] for length in range(1, len(key))]
    return _Layer(values, dict.fromkeys([key, *_lines(node, key)], place), dict.fromkeys(above, place))


def _layers(path: str | Path, arguments: Sequence[str]) -> list[_Layer]:
    return [*_read(Path(path), str(path)), *map(_argument, arguments)]


def _place(layers: Sequence[_Layer], *keys: Key) -> str:
    """Where one of the keys was set last; else the nearest parent of one; else the file."""
    for cut in range(max(map(len, keys)) + 1):
        for layer in reversed(layers):
            places = layer.places if cut else layer.above | layer.places
            for key in keys:
                if place := places.get(key[: max(len(key) - cut, 0)]):
                    return place
    raise AssertionError("every file stands under ()")


def _merge(low: Any, high: Any) -> Any:
    """`high` over `low`: mappings key by key, anything else replaced whole."""
    if not (isinstance(low, dict) and isinstance(high, dict)):
        return high
    return low | {name: _merge(low.get(name), value) for name, value in high.items()}


def _sections(annotation: Any) -> list[type[Section]]:
    """The sections that a field may hold; several of them are told apart by their `name`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in _sections(part)]


def _filled(schema: type[Section], values: dict[str, Any]) -> dict[str, Any]:
    """`values` over the defaults of the fields they are for.

    Without it a section that is given in part would get the defaults of its type, not those that
    its owner chose: `agent.network.hidden=[64]` would change the torso of a PQN.
    """
    filled = dict(values)
    for name, field in schema.model_fields.items():
        sections, given = _sections(field.annotation), values.get(name)
        if not (sections and isinstance(given, dict)):
            continue
        if isinstance(field.default, Section):
            default = field.default.model_dump(mode="json")
            if len(sections) == 1 or given.get("name", default["name"]) == default["name"]:
                given = _merge(default, given)
        chosen = [m for m in sections if len(sections) == 1 or given.get("name") == _tag(m)]
        filled[name] = _filled(chosen[0], given) if chosen else given
    return filled


def _tag(section: type[Section]) -> Any:
    return section.model_fields["name"].default


def _keys(schema: type[Section], prefix: Key = ()) -> Iterator[Key]:
    """Every key that a config of this schema may hold."""
    for name, field in schema.model_fields.items():
        yield (*prefix, name)
        for section in _sections(field.annotation):
            yield from _keys(section, (*prefix, name))


def _locate(schema: type[Section], loc: Sequence[str | int]) -> tuple[Key, type[Section], str]:
    """From a location of pydantic's: the key, the section it is looked up in, and which one that is."""
    key: Key = ()
    owner, models, tag, which = schema, [schema], "", ""
    for part in map(str, loc):
        if len(models) > 1:  # A union's tag is in the location without being a key of the file.
            models = [m for m in models if _tag(m) == part]
            tag = f" of {'.'.join(key)} {part!r}"
            continue
        if models:
            owner, which, tag = models[0], tag, ""
        key = (*key, part)
        field = owner.model_fields.get(part) if models else None  # None for an item of a list.
        models = _sections(field.annotation) if field else []
    return key, owner, which


def _unknown(schema: type[Section], key: Key, owner: type[Section], which: str) -> str:
    elsewhere = [k for k in _keys(schema) if k[-1] == key[-1]]
    if key in elsewhere:
        mend = f"it belongs to another {'.'.join(key[:-1])}.name"
    elif (near := did_you_mean(key[-1], owner.model_fields)) is not None:
        mend = near
    elif elsewhere:
        mend = f"did you mean {'.'.join(elsewhere[0])!r}?"
    else:
        mend = f"known here: {', '.join(owner.model_fields)}"
    return f"unknown key {'.'.join(key)!r}{which}; {mend}"


def _mend_choice(found: Any, ctx: Mapping[str, Any]) -> str:
    names = ctx.get("expected") or ctx["expected_tags"]
    wanted = [name.strip(" '") for name in names.replace(" or ", ",").split(",")]
    return did_you_mean(str(found), wanted) or f"one of {', '.join(wanted)} is wanted"


_WANTED = {
    "bool_type": "true or false",
    "float_type": "a number",
    "int_type": "a whole number",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "model_type": "a group of keys",
    "dict_type": "a group of keys",
    "model_attributes_type": "a group of keys",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
}


def _wanted(error: Any) -> str:
    """The mend for a value of the wrong type or outside its range."""
    kind, found, ctx = error["type"], error["input"], error.get("ctx", {})
    if kind not in _WANTED:
        return f"{error['msg'][0].lower()}{error['msg'][1:]}"
    wanted = f"{_WANTED[kind].format_map(ctx)} is wanted"
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if kind == "int_type" and not isinstance(found, bool) and float(found).is_integer():
            wanted += f", such as {int(float(found))}"  # For 1e6 and for "3".
    return wanted


def _sentence(schema: type[Section], layers: Sequence[_Layer], error: Any) -> str:
    """One sentence for one of pydantic's errors."""
    key, owner, which = _locate(schema, error["loc"])
    found = error["input"]
    match error["type"]:
        case "json_invalid":
            return f"{_place(layers, ())}: text that is not Unicode, or nesting beyond any use"
        case "value_error" if isinstance(misfit := error["ctx"]["error"], Misfit):
            return _placed(misfit, layers, key)
        case "value_error":
            mend = str(error["ctx"]["error"])
        case "extra_forbidden":
            return f"{_place(layers, key)}: {_unknown(schema, key, owner, which)}"
        case "missing":
            return f"{_place(layers, key)}: the key {'.'.join(key)!r} is missing"
        case "union_tag_not_found":
            return f"{_place(layers, key)}: the key {'.'.join((*key, 'name'))!r} is missing"
        case "union_tag_invalid":
            key, found = (*key, "name"), found["name"]
            mend = _mend_choice(found, error["ctx"])
        case "literal_error":
            mend = _mend_choice(found, error["ctx"])
        case _:
            mend = _wanted(error)
    return f"{_place(layers, key)}: {'.'.join(key)} is {_quote(found)}; {mend}"


def _placed(misfit: Misfit, layers: Sequence[_Layer], section: Key = ()) -> str:
    keys = [(*section, *key) for key in misfit.keys]
    return f"{_place(layers, *keys)}: {'.'.join(keys[0])} is {_quote(misfit.found)}; {misfit.reason}"


def _check_leaves(values: Any, layers: Sequence[_Layer], key: Key = ()) -> None:
    """Refuse what YAML can say and no field can hold, over which JSON would stumble."""
    match values:
        case dict() | list():
            for name, value in values.items() if isinstance(values, dict) else enumerate(values):
                _check_leaves(value, layers, (*key, str(name)))
        case None | bool() | str():
            pass
        case int() | float() if abs(values) < 1e300:
            pass
        case _:
            raise ConfigError(
                f"{_place(layers, key)}: {'.'.join(key)} is {_quote(values)}; "
                "text, a finite number, true, false, null or a list of these is wanted"
            )


def load(schema: type[SectionType], path: str | Path, arguments: Sequence[str] = ()) -> SectionType:
    """The config in `path`, with `key=value` arguments over it, later ones over earlier ones.

    Raises:
        ConfigError: for the first mistake found.
    """
    layers = _layers(path, arguments)
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _merge(merged, layer.values)
    try:
        values = OmegaConf.to_container(OmegaConf.create(merged), resolve=True)
    except Exception as error:  # A `${...}` that leads nowhere, in one of many ways.
        key = tuple(str(getattr(error, "full_key", None) or "").split("."))
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{_place(layers, key)}: {'.'.join(key)}: {reason}") from None
    _check_leaves(values, layers)
    try:
        return schema.model_validate_json(json.dumps(_filled(schema, _plain(values))))
    except pydantic.ValidationError as error:
        raise ConfigError(_sentence(schema, layers, error.errors()[0])) from None


@contextlib.contextmanager
def placing(path: str | Path, arguments: Sequence[str] = ()) -> Iterator[None]:
    """A context in which a `Misfit` becomes a `ConfigError` naming its place in what `load` read.

    For what shows only after loading, such as an environment whose shape the network cannot take.
    """
    try:
        yield
    except Misfit as misfit:
        raise ConfigError(_placed(misfit, _layers(path, arguments))) from misfit


def dump(config: Section) -> str:
    """The config as YAML with every value written out; `load` reads it back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
