"""Files that stand in the place of another: what a download left instead of what was asked for."""


def stand_in(head: bytes) -> str | None:
    """What the first bytes of a file (a hundred or so) show it to be instead of a photo or a tar, with the cure, or
    None when they show nothing of the kind."""
    start = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself: run git lfs pull where it came from"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page saved in its place, maybe a log-in or an error of the server: download it again"
    if start.startswith((b"<?xml", b"<error>")) and b"<error>" in start:
        return "an error message of the server saved in its place: download it again"
    return None
