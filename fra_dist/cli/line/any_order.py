"""Command lines as people write them: options anywhere, words that are nearly right, and `~` in paths."""

import argparse
import difflib
import os
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any, NoReturn

OWN = ("-h", "--help", "--version")
"""The options of `fra-dist` itself."""
_HOME = re.compile(r"((?:--)?[\w.-]+=)?~/")


class HelpWithDefaults(argparse.HelpFormatter):
    """Help in which every option names its default, where it has one and its text does not say so already."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        telling = action.default not in (None, False, argparse.SUPPRESS) and action.default != []
        if not action.option_strings or not telling or "default" in text or "%(default)" in text:
            return text
        return f"{text} (default: %(default)s)".strip()


class RawHelpWithDefaults(HelpWithDefaults, argparse.RawDescriptionHelpFormatter):
    """The same, with the lines of the description as they are written."""


class AnyOrderParser(argparse.ArgumentParser):
    """An ArgumentParser, also of sub-commands, whose options may stand before, between and after the other words.

    argparse by itself fills `key=value ...` at the first word that is none, so that in `CONFIG --dry-run train.steps=3`
    the last word would be one too many. What is nearly right
    is answered with the right word.
    """

    words: Sequence[str] = ()
    """The command line, for commands whose help depends on its words."""
    _inside = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": HelpWithDefaults, **settings})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The known arguments and the words left over, as argparse gives them,
        whatever the order of options and other words."""
        if self._subparsers is not None and args is not None:
            args = command_first(args, list(self._choices()), self._option_string_actions)
        if self._inside or self._subparsers is not None:  # a parser of sub-commands leaves their words to them
            return super().parse_known_args(args, namespace)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, with what was probably meant, and exit with status 2."""
        super().error(message + self._meant(message))

    def _meant(self, message: str) -> str:
        """What was probably meant, in parentheses; empty when nothing is near."""
        if (choice := re.search(r"invalid choice: '([^']*)'", message)) is not None:
            known, word = list(self._choices()), choice[1]
        elif (extra := re.search(r"unrecognized arguments: (.*)", message)) is not None:
            word = next((one for one in extra[1].split() if one.startswith("--")), "").partition("=")[0]
            known = list(self._options())
        else:
            return ""
        if word in known:
            return " (an option of other sub-commands)"
        near = difflib.get_close_matches(word, known, 1, 0.6)
        return f" (did you mean {near[0]}?)" if near else ""

    def _choices(self) -> Iterator[str]:
        for action in self._actions:
            yield from map(str, action.choices or ())

    def _options(self) -> Iterator[str]:
        """All long options of this parser and of those of its sub-commands."""
        for action in self._actions:
            yield from (name for name in action.option_strings if name.startswith("--"))
            if isinstance(action, argparse._SubParsersAction):
                for parser in set(action.choices.values()):
                    if isinstance(parser, AnyOrderParser):
                        yield from parser._options()


def command_first(words: Sequence[str], commands: Container[str], own: Iterable[str] = OWN) -> list[str]:
    """The words with options that stand before the command moved behind everything else (but a `--`), where a parser of
    sub-commands takes them: `--json ckpt ls RUN` becomes `ckpt ls RUN --json`. Words with an option in `own`, which is
    no sub-command's, stay as they are."""
    words = list(words)
    place = next((n for n, word in enumerate(words) if not word.startswith("-")), 0)
    before = words[:place]
    if not before or words[place] not in commands or set(before) & {*own, "--"}:
        return words
    end = words.index("--") if "--" in words else len(words)
    return [*words[place:end], *before, *words[end:]]


def at_home(words: Sequence[str]) -> list[str]:
    """The words with `~/` at the beginning of a path expanded, as in `--out=~/x` and `output=~/x`,
    which shells do not expand."""
    return [
        word[: match.end() - 2] + os.path.expanduser(word[match.end() - 2 :]) if (match := _HOME.match(word)) else word
        for word in words
    ]
