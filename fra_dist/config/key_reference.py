"""Every key of the configuration with its kind, range, default and meaning, read from the schema.

`fra-dist config` prints it, and `docs/configuration.md` is `as_markdown()`.
"""

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic_core import PydanticUndefined

from fra_dist.config.nearest_key import advice
from fra_dist.config.schema import Config
from fra_dist.config.section import Section, section_of
from fra_dist.errors import ConfigError

_KINDS = {int: "whole number", float: "number", bool: "true or false", str: "text"}
_LIMITS = {"ge": "{} or more", "gt": "above {}", "le": "{} or less", "lt": "below {}"}


@dataclass(frozen=True)
class Key:
    """The documentation of one key of the configuration: its name, type, default and meaning as text."""

    name: str
    """Dotted, as on the command line, for example `data.view1.flip`; `[]` marks the entries of a list."""
    kind: str
    """Type and range of its value, for example `whole number, 1 or more`."""
    default: str | None
    """As YAML; None where a value must be given."""
    meaning: str
    """What it does, and in which unit."""
    section: type[Section] | None = None
    """The class of its keys when it is a section, or a list of sections."""


def all_keys() -> list[Key]:
    """Every section and key, in the order of the schema; a section comes before its keys."""
    return list(_keys(Config, "", Config()))


def find_keys(name: str) -> list[Key]:
    """A key, or a section with all its keys. Raises ConfigError, which names the nearest one, for an unknown name."""
    known = all_keys()
    wanted = name.strip(".")
    found = [key for key in known if key.name == wanted or key.name.startswith((f"{wanted}.", f"{wanted}[]"))]
    if found:
        return found
    names = [key.name for key in known]
    ending = [one for one in names if one.endswith(f".{wanted}")]
    hint = f" (did you mean {' or '.join(ending)}?)" if ending else advice(wanted.split("."))
    raise ConfigError(f"no section or key is called {name}{hint}")


def as_text(keys: Sequence[Key], width: int = 80) -> str:
    """Keys for a terminal of `width` columns: name and default, then kind and meaning, indented."""
    return "\n".join(line for key in keys for line in (*_entry(key, max(width, 24)), "")).rstrip()


def as_markdown() -> str:
    """The whole reference as a page: a table a section."""
    lines = [
        "# Configuration",
        "",
        "Every key of a configuration file, which is also an override on the command line: `section.key=value`.",
        "`fra-dist config SECTION.KEY` prints an entry, `fra-dist config list` the configurations that are shipped.",
        "This page is generated from `fra_dist/config/`: `make docs` writes it.",
        "",
    ]
    documented: dict[type[Section], list[Key]] = {}
    for name, section, meaning in _sections():
        keys = _direct(name)
        lines += [f"## {name}" if name else "## Without a section", "", meaning, ""]
        if section in documented:
            first = documented[section]
            lines += [f"Keys are those of `{first[0].name.rpartition('.')[0]}`; these defaults differ:", ""]
            keys = [key for key, other in zip(keys, first, strict=True) if key.default != other.default]
        else:
            documented[section] = keys
        lines += ["| key | value | default | meaning |", "|---|---|---|---|", *map(_row, keys), ""]
    return "\n".join(lines).rstrip() + "\n"


def _sections() -> Iterator[tuple[str, type[Section], str]]:
    yield "", Config, "What is about the whole run."
    for key in all_keys():
        if key.section is not None:
            yield key.name, key.section, key.meaning + (" Default: null." if key.default == "null" else "")


def _direct(name: str) -> list[Key]:
    """The keys right inside a section, without its sections; those of the whole configuration for ''."""
    prefix = f"{name}." if name else ""
    return [
        key
        for key in all_keys()
        if key.section is None and key.name.startswith(prefix) and "." not in key.name.removeprefix(prefix)
    ]


def _row(key: Key) -> str:
    cells = (f"`{key.name}`", key.kind, f"`{key.default}`" if key.default is not None else "", key.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _entry(key: Key, width: int) -> list[str]:
    shown = key.default is not None and (key.section is None or key.default == "null")
    head = f"{key.name} = {key.default}" if shown else key.name
    lines = textwrap.wrap(head, width, subsequent_indent="    ")
    for part in (key.kind, key.meaning):
        lines += textwrap.wrap(part, width, initial_indent="    ", subsequent_indent="    ")
    return lines


def _keys(section: type[Section], prefix: str, defaults: Section | None) -> Iterator[Key]:
    for name, field in section.model_fields.items():
        value = getattr(defaults, name) if defaults is not None else field.get_default(call_default_factory=True)
        inner, many = section_of(field.annotation)
        dotted = prefix + (field.alias or name) + ("[]" if many else "")
        default = None if value is PydanticUndefined else _yaml(value)
        kind = _section_kind(field.annotation, many) if inner else _describe(field.annotation, field.metadata)
        kind = kind.replace("text", "path") if field.json_schema_extra else kind
        yield Key(dotted, kind, default, " ".join((field.description or "").split()), inner)
        if inner is not None:
            yield from _keys(inner, f"{dotted}.", value if isinstance(value, Section) else None)


def _section_kind(annotation: Any, many: bool) -> str:
    if many:
        return "list of sections"
    return "section, or null" if type(None) in get_args(annotation) else "section"


def _describe(annotation: Any, metadata: Sequence[Any]) -> str:
    """The type and range of a value, in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _describe(parts[0], [limit for one in parts[1:] for limit in getattr(one, "metadata", [one])])
    if origin is Literal:
        return "one of " + ", ".join(map(str, parts))
    if type(None) in parts:
        return ", ".join(_describe(part, metadata) for part in parts if part is not type(None)) + "; or null"
    if origin is tuple:
        each = _describe(parts[0], ())
        return f"list of values, each {each}" if parts[-1] is Ellipsis else f"list of {len(parts)} values, each {each}"
    if origin is dict:
        each = "" if parts[1] is Any else f", each {_describe(parts[1], ())}"
        return f"section with keys of its own{each}"
    limits = _limits(metadata)
    return _KINDS.get(annotation, "value") + (f", {limits}" if limits else "")


def _limits(metadata: Sequence[Any]) -> str:
    found = {name: getattr(one, name) for one in metadata for name in _LIMITS if getattr(one, name, None) is not None}
    if found.keys() == {"ge", "le"}:
        return f"{_number(found['ge'])} to {_number(found['le'])}"
    return ", ".join(_LIMITS[name].format(_number(value)) for name, value in found.items())


def _number(value: float) -> str:
    """Short for the bounds of machine words: 2^31 - 1 instead of ten digits."""
    if isinstance(value, int) and value >= 2**16 and (value + 1).bit_count() == 1:
        return f"2^{value.bit_length()} - 1"
    if isinstance(value, int) and value >= 2**16 and value.bit_count() == 1:
        return f"2^{value.bit_length() - 1}"
    return str(value) if isinstance(value, int) else f"{value:g}"


def _yaml(value: Any) -> str:
    """A default as it is written in a configuration file, on one line."""
    if isinstance(value, Section):
        return "see its keys"
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return json.dumps(value)
