"""From a YAML file and `key=value` arguments to a frozen, validated config.

A file may name another with `base:`, whose values it overrides. Every mistake is one
`ConfigError`, whose sentence names the file and line or the argument, the key, and a mend.
"""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import omegaconf
import pydantic
import yaml
from omegaconf import OmegaConf

from valuelearn.errors import UserError

Key = tuple[str, ...]


class ConfigError(UserError):
    """A mistake in a config, in one sentence for the person who made it."""


class Section(pydantic.BaseModel):
    """Base of every group of options: strict types, unknown keys fatal, never changed."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


SectionType = TypeVar("SectionType", bound=Section)


class _Layer(NamedTuple):
    """One source of values: a file, or one argument."""

    place: str
    values: Any  # OmegaConf.
    lines: dict[Key, int]  # Empty for an argument.

    def where(self, key: Key) -> str | None:
        """The place that sets this key, if this layer does."""
        if self.lines:
            return f"{self.place}, line {self.lines[key]}" if key in self.lines else None
        dotted = self.place.partition("=")[0]
        return f"argument {self.place!r}" if dotted.split(".")[: len(key)] == list(key) else None


def _lines(node: yaml.Node | None, prefix: Key = ()) -> dict[Key, int]:
    if not isinstance(node, yaml.MappingNode):
        return {}
    found: dict[Key, int] = {}
    for key_node, value_node in node.value:
        key = (*prefix, str(key_node.value))
        found[key] = key_node.start_mark.line + 1
        found |= _lines(value_node, key)
    return found


def _read(path: Path) -> list[_Layer]:
    """The file's layer, after those of the files it is based on."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        siblings = [str(other) for other in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        near = difflib.get_close_matches(str(path), siblings, 1)
        raise ConfigError(f"{path}: no such file" + (f"; did you mean {near[0]}?" if near else "")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text ({error})") from None
    try:
        values = OmegaConf.create(text)
        lines = _lines(yaml.compose(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(values, omegaconf.DictConfig):
        raise ConfigError(f"{path}: a list of `key: value` pairs is wanted, this holds something else")
    layer = _Layer(str(path), values, lines)
    if "base" not in values:
        return [layer]
    base = path.parent / str(values.pop("base"))
    if not base.is_file():
        raise ConfigError(f"{layer.where(('base',))}: the base {base} is no file")
    return [*_read(base), layer]


def _argument(text: str) -> _Layer:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"argument {text!r}: key=value is wanted, such as train.seed=1")
    try:
        return _Layer(text, OmegaConf.from_dotlist([text]), {})
    except (yaml.YAMLError, omegaconf.errors.OmegaConfBaseException):
        raise ConfigError(f"argument {text!r}: {value!r} is not a YAML value") from None


def _place(layers: Sequence[_Layer], key: Key) -> str:
    """Where the key, or the nearest parent that stands anywhere, was last set."""
    for length in range(len(key), 0, -1):
        for layer in reversed(layers):
            if place := layer.where(key[:length]):
                return place
    return layers[0].place


def _fields(schema: Any, key: Key, values: Any) -> list[str]:
    """Names of the fields beside the last part of `key` in a schema of sections and unions."""
    models = [schema]
    for part in key[:-1]:
        values = values.get(part, {}) if isinstance(values, dict) else {}
        found = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        models = [m for annotation in found for m in _sections(annotation)]
        named = [m for m in models if "name" in m.model_fields and isinstance(values, dict)]
        chosen = [m for m in named if m.model_fields["name"].default == values.get("name")]
        models = chosen or models
    return sorted({name for model in models for name in model.model_fields})


def _sections(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in _sections(part)]


def _sentence(schema: type[Section], layers: Sequence[_Layer], values: Any, error: Any) -> str:
    """One sentence for one of pydantic's errors."""
    # A union's tag stands in the location without being a key of the file.
    key: Key = ()
    inner = values
    for part in map(str, error["loc"]):
        if isinstance(inner, dict) and part not in inner and inner.get("name") == part:
            continue
        key = (*key, part)
        inner = inner.get(part) if isinstance(inner, dict) else None
    dotted = ".".join(key)
    place = _place(layers, key) if key else layers[-1].place
    found = json.dumps(error["input"])
    match error["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(key[-1], names := _fields(schema, key, values), 1, 0.5)
            mend = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(names)}"
            return f"{place}: unknown key {dotted!r}; {mend}"
        case "missing":
            return f"{place}: the key {dotted!r} is missing"
        case "literal_error" | "union_tag_invalid":
            names = error["ctx"].get("expected") or error["ctx"]["expected_tags"]
            wanted = [name.strip(" '") for name in names.replace(" or ", ",").split(",")]
            if error["type"] == "union_tag_invalid":
                dotted, found = f"{dotted}.name", json.dumps(error["ctx"]["tag"])
            near = difflib.get_close_matches(found.strip('"'), wanted, 1, 0.5)
            mend = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(wanted)} is wanted"
            return f"{place}: {dotted} is {found}; {mend}"
        case "value_error":
            reason = str(error["ctx"]["error"])
            return f"{place}: {f'{dotted}: ' if dotted else ''}{reason}"
    wanted = error["msg"].removeprefix("Input should be ")
    return f"{place}: {dotted} is {found}; {wanted} is wanted"


def load(schema: type[SectionType], path: str | Path, arguments: Sequence[str] = ()) -> SectionType:
    """The config in `path`, with `key=value` arguments over it.

    Raises:
        ConfigError: for the first mistake found.
    """
    layers = [*_read(Path(path)), *map(_argument, arguments)]
    try:
        merged = OmegaConf.merge(*(layer.values for layer in layers))
        values = OmegaConf.to_container(merged, resolve=True)
    except omegaconf.errors.OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{layers[-1].place}: {reason}") from None
    try:
        text = json.dumps(values, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: a value is neither text, a finite number nor a list ({error})") from None
    try:
        return schema.model_validate_json(text)
    except pydantic.ValidationError as error:
        raise ConfigError(_sentence(schema, layers, values, error.errors()[0])) from None


def dump(config: Section) -> str:
    """The config as YAML with every value written out; `load` reads it back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
