"""`fra-dist config [SECTION[.KEY]]`: what the keys of the configuration mean; `fra-dist config list`: shipped ones."""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist config` to its parser."""
    parser.add_argument(
        "name",
        nargs="?",
        metavar="SECTION[.KEY]",
        help="for example optim or optim.lr; list: the configurations that are shipped (default: all keys)",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--markdown", action="store_true", help="all keys as a page, docs/configuration.md")


def run(args: argparse.Namespace) -> int:
    """Print what the keys mean, or the shipped configurations.

    Raises ConfigError for a name that is no section or key.
    """
    from fra_dist.config.key_reference import all_keys, as_markdown, as_text, find_keys

    if args.json and args.name == "list":
        from fra_dist.config.shipped import shipped_configs

        rows = [
            {"name": name, "path": str(path), "about": _first_comment(path)} for name, path in shipped_configs().items()
        ]
        print(json.dumps(rows, indent=1))
    elif args.json:
        keys = find_keys(args.name) if args.name else all_keys()
        names = ("name", "kind", "default", "meaning")
        print(json.dumps([{name: getattr(key, name) for name in names} for key in keys], indent=1))
    elif args.name == "list":
        print("\n".join(_shipped()))
    elif args.markdown:
        print(as_markdown(), end="")
    else:
        width = min(shutil.get_terminal_size((80, 24)).columns, 100)
        print(as_text(find_keys(args.name) if args.name else all_keys(), width))
    return 0


def _shipped() -> Iterator[str]:
    from fra_dist.config.shipped import shipped_configs

    found = shipped_configs()
    width = max(map(len, found))
    for name, path in found.items():
        yield f"{name:<{width}}  {_first_comment(path)}"
    yield f"\n`fra-dist pretrain {next(iter(found))}` uses one by its name; `fra-dist init DIR` copies all of them"


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""
