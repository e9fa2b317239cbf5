"""Versions of what decides the bytes of shards, for the manifest."""

from importlib.metadata import version

from PIL import features

_PACKAGES = {"fra_dist": "fra-dist", "webdataset": "webdataset", "pillow": "pillow", "numpy": "numpy"}


def tool_versions() -> dict[str, str]:
    """Name to version; nothing in it names the machine."""
    tools = {name: version(package) for name, package in _PACKAGES.items()}
    return {**tools, "libjpeg_turbo": str(features.version("libjpeg_turbo"))}
