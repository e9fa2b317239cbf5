"""Whole numbers on the command line, for `type=` of argparse."""

import argparse


def count(text: str) -> int:
    """A whole number from 1 on. Raises ArgumentTypeError for other text."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def whole_number(text: str) -> int:
    """A whole number from 0 on. Raises ArgumentTypeError for other text."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def seed(text: str) -> int:
    """A whole number from 0 to 2^63 - 1, as the key `seed` of the configuration.

    Raises ArgumentTypeError for other text.
    """
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^63 - 1")
    return int(text)
