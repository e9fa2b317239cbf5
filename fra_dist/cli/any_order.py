"""Command lines in the order in which people write them."""

import argparse
import os
import re
from collections.abc import Sequence
from typing import Any

_HOME = re.compile(r"((?:--)?[\w.-]+=)?~/")


class AnyOrderParser(argparse.ArgumentParser):
    """An ArgumentParser, also of sub-commands, whose options may stand before, between and after the other words.

    argparse by itself fills `key=value ...` at the first word that is none, so that in `CONFIG --dry-run train.steps=3`
    the last word would be one too many.
    """

    _inside = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The known arguments and the words left over, as argparse gives them,
        whatever the order of options and other words."""
        if self._inside or self._subparsers is not None:  # a parser of sub-commands leaves their words to them
            return super().parse_known_args(args, namespace)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False


def at_home(words: Sequence[str]) -> list[str]:
    """The words with `~/` at the beginning of a path expanded, as in `--out=~/x` and `output=~/x`,
    which shells do not expand."""
    return [
        word[: match.end() - 2] + os.path.expanduser(word[match.end() - 2 :]) if (match := _HOME.match(word)) else word
        for word in words
    ]
