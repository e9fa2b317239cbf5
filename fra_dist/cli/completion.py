"""`fra-dist completion bash|zsh|fish`: the code by which a shell completes our words at the tab key.

argcomplete asks this program itself, by its environment: `complete` answers when it is asked.
"""

import argparse
import os
from typing import Any

from fra_dist.errors import ConfigError

SHELLS = ("bash", "zsh", "fish")
_INSTALL = (
    'install argcomplete: pip install "fra-dist[completion]", in a checkout: .venv/bin/uv pip install argcomplete'
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist completion` to its parser."""
    parser.add_argument("shell", choices=SHELLS)
    parser.epilog = (
        'bash: eval "$(fra-dist completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc after compinit; '
        "fish: fra-dist completion fish > ~/.config/fish/completions/fra-dist.fish"
    )


def run(args: argparse.Namespace) -> int:
    """Print the code for a shell. Raises ConfigError when argcomplete is not installed."""
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError:
        raise ConfigError(f"tab completion needs argcomplete: {_INSTALL}") from None
    print(shellcode(["fra-dist"], shell=args.shell))
    return 0


def asked() -> bool:
    """Whether a shell asks for completions by the environment."""
    return "_ARGCOMPLETE" in os.environ


def chosen_command(commands: Any) -> str | None:
    """The sub-command in the line that the shell completes; None while it is being typed."""
    words = os.environ.get("COMP_LINE", "").split()
    return next((word for word in words[1:] if word in commands), None)


def complete(parser: argparse.ArgumentParser) -> None:
    """Print the completions of the line and end the process."""
    import argcomplete

    for action in _all_actions(parser):
        if action.dest == "overrides":
            action.completer = complete_key  # type: ignore[attr-defined]
        elif action.dest == "config":
            action.completer = complete_config  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser)


def complete_key(prefix: str, **_: Any) -> list[str]:
    """Keys of the configuration that begin with `prefix`, each with its `=`."""
    from fra_dist.config.nearest_key import keys_of
    from fra_dist.config.schema import Config

    return [f"{key}=" for key in keys_of(Config) if key.startswith(prefix)]


def complete_config(prefix: str, **_: Any) -> list[str]:
    """Shipped configurations and files of YAML that begin with `prefix`."""
    from argcomplete.completers import FilesCompleter

    from fra_dist.config.shipped import shipped_configs

    files = FilesCompleter(allowednames=["yaml", "yml"])(prefix)
    return [*(name for name in shipped_configs() if name.startswith(prefix)), *files]


def _all_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    found = list(parser._actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                found += _all_actions(sub)
    return found
