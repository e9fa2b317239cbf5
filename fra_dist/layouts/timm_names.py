"""Names of timm's whole models, and of the same tensors in `TimmBackbone`, which has a model's stages without its head.

timm's `features_only` writes `stages.0.blocks` as `stages_0.blocks`, or puts the whole model below `model.`.
"""

from collections.abc import Iterable, Iterator, Mapping


def backbone_names(own: Iterable[str], theirs: Iterable[str]) -> dict[str, str]:
    """Name in a `TimmBackbone` -> name in the whole model, for each of `own` that has a counterpart in `theirs`."""
    known, found = set(own), dict[str, str]()
    for name in theirs:
        match = next((one for one in _candidates(name) if one in known and one not in found), None)
        if match is not None:
            found[match] = name
    return found


def in_backbone(own: Iterable[str], theirs: Mapping[str, object]) -> dict[str, str]:
    """`backbone_names` for a file: also where a word such as `module.` or `backbone.` stands before every name."""
    names = list(own)
    prefixes = ["", "module.", "backbone.", "encoder.", "model.", "module.backbone.", "_orig_mod."]
    return max((_with_prefix(names, theirs, prefix) for prefix in prefixes), key=len)


def _with_prefix(own: list[str], theirs: Mapping[str, object], prefix: str) -> dict[str, str]:
    some = [name.removeprefix(prefix) for name in theirs if name.startswith(prefix)]
    return {mine: prefix + name for mine, name in backbone_names(own, some).items()}


def _candidates(name: str) -> Iterator[str]:
    yield f"net.model.{name}"
    for dots in range(name.count(".") + 1):
        yield "net." + name.replace(".", "_", dots)
    yield name
