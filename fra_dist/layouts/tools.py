"""Which tool wrote a file of weights, by names that only it uses. For people; nothing depends on it but text."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

Mark = Callable[[Sequence[str], str, Sequence[str]], bool]
"""(names of all tensors, prefix of the ResNet among them, keys that lead to them) -> whether it is this tool's."""


def _has(word: str) -> Mark:
    return lambda names, prefix, inside: any(word in name for name in names)


def _both(one: str, two: str) -> Mark:
    return lambda names, prefix, inside: _has(one)(names, prefix, inside) and _has(two)(names, prefix, inside)


TOOLS: Mapping[str, Mark] = {
    "unsupervised-face-representation": lambda names, prefix, inside: prefix.endswith("base_net."),
    "VISSL": lambda names, prefix, inside: "classy_state_dict" in inside or "_feature_blocks." in prefix,
    "MoCo": lambda names, prefix, inside: "encoder_q." in prefix or "base_encoder." in prefix,
    "SwAV": _both("projection_head.", "prototypes."),
    "DINO": lambda names, prefix, inside: (
        not {"teacher", "student"}.isdisjoint(inside) or _has("head.last_layer")(names, prefix, inside)
    ),
    "Lightly": lambda names, prefix, inside: f"{prefix}4.0.conv1.weight" in names,
    "solo-learn": lambda names, prefix, inside: prefix in ("backbone.", "encoder.") and inside[:1] == ("state_dict",),
    "timm": lambda names, prefix, inside: "state_dict_ema" in inside,
    "torchvision": lambda names, prefix, inside: prefix in ("", "module."),
}


def tool_of(state: Mapping[str, Tensor], prefix: str, inside: Sequence[str]) -> str:
    """The name of the tool whose layout a file has, "another tool" for one that is not known."""
    names = list(state)
    return next((tool for tool, mark in TOOLS.items() if mark(names, prefix, inside)), "another tool")
