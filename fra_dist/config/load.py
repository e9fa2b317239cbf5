"""YAML file + `section.key=value` overrides -> a validated, frozen `Config`."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fra_dist.config.migrations import migrate
from fra_dist.config.nearest_key import advice
from fra_dist.config.places import expand_places
from fra_dist.config.schema import Config
from fra_dist.config.shipped import find_config, shipped_configs
from fra_dist.config.yaml_values import WrittenTwice, annotation_of, by_type, read_value, read_yaml
from fra_dist.errors import ConfigError
from fra_dist.files import failure, is_file, is_folder, raw_bytes
from fra_dist.stand_ins import stand_in


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, or the defaults when None, and apply `a.b=value` overrides.

    `path` may be the name of a shipped configuration, `demo`. `~` and `$VARIABLES` in paths are expanded, and keys of
    earlier versions are understood. Raises ConfigError, in one line that names the file or the override, the key, and
    the nearest known key.
    """
    tree = _read(find_config(path), path) if path is not None else {}
    for text in overrides:
        _override(tree, text)
    where = str(path) if path is not None else "the overrides"
    try:
        tree = by_type(migrate(tree, where), Config)
    except RecursionError:
        raise ConfigError(f"{where}: an alias (*) stands inside its own anchor (&)") from None
    return _validated(expand_places(tree, Config), where)


def parse_config(tree: dict[str, Any], where: str = "the configuration") -> Config:
    """Validate a nested dictionary, also one of an earlier version; its paths stay as they are. Raises ConfigError."""
    return _validated(migrate(tree, where), where)


def _validated(tree: dict[str, Any], where: str) -> Config:
    try:
        return Config.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_explain(dict(e)) for e in error.errors())) from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: a value has no JSON form ({error})") from None


def config_with(config: Config | Mapping[str, Any], keys: Mapping[str, Any]) -> Config:
    """A configuration with some settings changed: {key or section.key: value}; a section's value may be a dictionary.

    `~` and `$VARIABLES` in paths are expanded. Raises ConfigError, in one line, for an unknown key or a value out of
    range.
    """
    tree = config.model_dump(mode="json", by_alias=True) if isinstance(config, Config) else _plain(config)
    for key, value in keys.items():
        *parents, last = key.split(".")
        place = tree
        for name in parents:
            if not isinstance(place.setdefault(name, {}), dict):
                raise ConfigError(f"{key}: {name} is a value, not a section")
            place = place[name]
        _put(place, last, value)
    where = "the settings given"
    return _validated(expand_places(by_type(migrate(tree, where), Config), Config), where)


def _put(place: dict[str, Any], key: str, value: Any) -> None:
    """Set a value; a dictionary changes only the keys that it names."""
    if not isinstance(value, Mapping):
        place[key] = str(value) if isinstance(value, Path) else value
        return
    inner = place.setdefault(key, {})
    if not isinstance(inner, dict):
        inner = place[key] = {}
    for name, one in value.items():
        _put(inner, str(name), one)


def _plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested dictionaries, with paths as text."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        _put(found, str(key), value)
    return found


def dump_config(config: Config) -> str:
    """The whole resolved configuration as YAML that `load_config` reads back to an equal Config."""
    return yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False)


def _read(path: Path, given: str | Path) -> dict[str, Any]:
    try:
        piped = path.parts[:2] in (("/", "dev"), ("/", "proc"))  # `pretrain <(...)`, `pretrain /dev/stdin`
        data = path.read_bytes() if piped else raw_bytes(path)
        if (found := stand_in(data)) is not None:
            raise ConfigError(f"{path} is {found}")
        tree = read_yaml(data.decode("utf-8"))
    except FileNotFoundError as error:
        shipped = f"; shipped with fra-dist: {', '.join(shipped_configs())}"
        raise ConfigError(f"cannot read configuration {given}: {error.strerror}{shipped}") from None
    except IsADirectoryError:
        own = path / "config.yaml"
        meant = f"that of this run is {own}" if is_file(own) else f"photos are given as data.photos={given}"
        raise ConfigError(
            f"{given} is a folder, but a configuration comes first, a YAML file or the name of a shipped one such as "
            f"photos_cpu: {meant}"
        ) from None
    except OSError as error:
        raise failure(error, f"cannot read configuration {path}", ConfigError) from None
    except WrittenTwice as error:
        raise ConfigError(f"{path}: {error}: keep one of them") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{path} is not a configuration: it is nested too deeply") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold sections and keys, not a {type(tree).__name__}")
    return tree


def _override(tree: dict[str, Any], text: str) -> None:
    key, sign, value = text.partition("=")
    if not sign or not key:
        found = is_folder(Path(text))
        meant = f": photos are given as data.photos={text}, shards as data.shards={text}" if found else ""
        raise ConfigError(f"override {text!r} is not of the form section.key=value{meant}")
    *parents, last = key.split(".")
    for name in parents:
        child = tree.setdefault(name, {})
        if child is None:
            child = tree[name] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"override {text!r}: {name} is a value, not a section")
        tree = child
    try:
        tree[last] = read_value(value, annotation_of(Config, key))
    except WrittenTwice as error:
        raise ConfigError(f"override {text!r}: {error}") from None


def _explain(error: dict[str, Any]) -> str:
    """One clause for an error of pydantic's."""
    key = ".".join(map(str, error["loc"])) or "the whole"
    given = error["input"]
    if error["type"] == "extra_forbidden":
        return f"unknown key {key}{advice(error['loc'], given)}"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if error["type"] == "value_error":
        return message
    if given is None and error["type"] == "string_type":
        return f"{key}: {message}, got null: as text it is written in quotes (in a shell: '{key}=\"null\"')"
    if isinstance(given, str) and re.fullmatch(r"[-+]?0\d+", given):
        message += " (a number that begins with 0 is octal to some readers of YAML: leave the 0 out)"
    return f"{key}: {message}, got {given!r}"
