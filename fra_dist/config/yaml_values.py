"""YAML as its writer meant it: a value is read by the type of its key, and nothing is dropped in silence.

YAML 1.1 takes `on`, `007`, `12:30` or `2026-11-28` for a truth value, an octal number, seconds and a date. Here plain
words that stand for a number or a truth value keep their text until the key's type is known, dates and times are text,
numbers that begin with 0 are refused where a number is asked for, and a key that is written twice is an error.
"""

import re
from dataclasses import dataclass
from typing import Any, get_args, get_origin

import yaml

from fra_dist.config.section import Section, is_text, section_of

_TAG = "tag:yaml.org,2002:"
_NULLS = ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True)
class Plain:
    """An unquoted word that YAML reads as a number or a truth value."""

    text: str
    value: bool | int | float


class WrittenTwice(yaml.YAMLError):
    """A key stands twice in one section; YAML itself would drop the first."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012, none of YAML 1.1

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)  # type: ignore[no-untyped-call]
        lines: dict[str, int] = {}
        for key, _ in node.value:
            here = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"line {here}: a key must be a word")
            if key.value in lines:
                where = f"lines {lines[key.value]} and" if lines[key.value] != here else "line"
                raise WrittenTwice(f"{key.value} is written twice, on {where} {here}")
            lines[key.value] = here
        return node  # type: ignore[no-any-return]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:  # type: ignore[override]
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}

    def plain(self, node: yaml.ScalarNode) -> Any:
        """The constructor of numbers and truth values."""
        value = yaml.SafeLoader.yaml_constructors[node.tag](self, node)
        return Plain(node.value, value) if node.style is None else value


_FLOAT = (
    r"^[-+]?(?:\d[\d_]*\.[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?$"
    r"|^[-+]?\d[\d_]*[eE][-+]?\d+$|^[-+]?\.(?:inf|Inf)$|^\.(?:nan|NaN)$"
)
for _name, _pattern, _first in (
    ("bool", r"^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$", "yYnNtTfFoO"),
    ("int", r"^[-+]?(?:0|[1-9][\d_]*)$", "-+0123456789"),
    ("float", _FLOAT, "-+0123456789."),
    ("merge", r"^<<$", "<"),
    ("null", r"^(?:~|null|Null|NULL|)$", ("~", "n", "N", "")),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), list(_first))
for _name in ("bool", "int", "float"):
    _Loader.add_constructor(_TAG + _name, _Loader.plain)


def read_yaml(text: str) -> Any:
    """One YAML document as dictionaries, lists, text, None and `Plain` words. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)  # a SafeLoader: builds plain values only


def read_value(text: str, annotation: Any) -> Any:
    """The value of an override for a key with this annotation (None: unknown key).

    Where text is asked for, it is taken as it stands, so `output=run #3` keeps what YAML would call a comment; only
    quotes around the whole of it are taken off, and the words for null are null.
    """
    if is_text(annotation):
        bare = text.strip()
        if bare in _NULLS[1:] or (not bare and type(None) in get_args(annotation)):
            return None
        if not (len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "'\""):
            return text
    try:
        return read_yaml(text)
    except WrittenTwice:
        raise
    except yaml.YAMLError:
        return text


def by_type(tree: Any, section: type[Section]) -> Any:
    """A tree without `Plain` words: each is its text where the schema asks for text, otherwise its value."""
    if not isinstance(tree, dict):
        return _fit(tree, None)
    return {key: _fit(value, annotation_of(section, key)) for key, value in tree.items()}


def annotation_of(section: type[Section], key: str) -> Any:
    """The type of a dotted key, or None when there is no such key."""
    first, _, rest = key.partition(".")
    for name, field in section.model_fields.items():
        if (field.alias or name) == first:
            inner, many = section_of(field.annotation)
            if not rest:
                return field.annotation
            return annotation_of(inner, rest) if inner is not None and not many else None
    return None


def _fit(value: Any, annotation: Any) -> Any:
    inner, many = section_of(annotation)
    if inner is not None and isinstance(value, dict):
        return by_type(value, inner)
    if isinstance(value, list):
        each = inner if many else next(iter(get_args(annotation)), None) if get_origin(annotation) is tuple else None
        return [_fit(one, each) for one in value]
    if isinstance(value, dict):
        return {key: _fit(one, None) for key, one in value.items()}
    if isinstance(value, Plain):
        return value.text if is_text(annotation) else value.value
    return value
