"""Recognises files that a download left in place of what was asked for, such as web pages and pointers."""

from pathlib import Path

from fra_dist.files import open_stream, patiently

_HEAD = 512  # bytes that are enough


def stand_in(head: bytes) -> str | None:
    """What a file is instead of what was asked for, with the cure, judging by its first hundred bytes or so.

    None when they show nothing of the kind.
    """
    start = head[:_HEAD].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself: run git lfs pull where it came from"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page saved in its place, maybe a log-in or an error of the server: download it again"
    if start.startswith((b"<?xml", b"<error>")) and b"<error>" in start:
        return "an error message of the server saved in its place: download it again"
    return None


def stand_in_at(path: Path) -> str | None:
    """What the file at a path is instead, as `stand_in` says it; None also when it cannot be read."""

    def head() -> bytes:
        with open_stream(path) as stream:
            return stream.read(_HEAD)

    try:
        return stand_in(patiently(head))
    except OSError:
        return None
