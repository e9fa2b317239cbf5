"""State dicts under the published implementation's names, and under ours; the arrays are the same.

    online_net.backbone.*                     online.backbone.*
    online_net.neck.proj.mlp.0|1|3            online.projector.linear1|norm|linear2
    online_net.neck.proj_pixel, proj_obj      online.pixel_projector, local_projector
    online_net.neck.proj_attn...              online.decoder...
    online_net.neck.proto                     online.prototypes
    predictor, predictor_obj                  predictor, local_predictor

and target_net for target. Their heads are 1×1 convolutions over a sequence and their input projection one over a map;
ours are linear layers over rows, so trailing dimensions of 1 come and go. Their unused buffer `center` is written as
zeros. Prototypes that are clusters have no decoder to write (proj_attn); a model without regions may still have a pixel
head (proj_pixel). Files without those come back as they were. Offsets of queries have no counterpart and are left out:
inference has no use for them. The top-down path to a finer map has none either, and is refused: heads take its map.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from fra_dist.errors import CheckpointError

_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_AFFINE = ("weight", "bias")
_OFFSET = "decoder.query_offset"


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of an FRA under the published names.

    Raises CheckpointError on keys that are unknown or missing.
    """
    state = {key: value for key, value in _at_rest(state).items() if not key.endswith(_OFFSET)}
    _refuse_path(state)
    table = _table(state, ours=True)
    out = {table[key][0]: value.reshape([*value.shape, *[1] * table[key][1]]) for key, value in state.items()}
    if "online.prototypes" in state:
        prototypes = state["online.prototypes"]
        out = {"center": prototypes.new_zeros(1, len(prototypes)), **out}
    return out


def without_counterpart(state: Mapping[str, Tensor]) -> str | None:
    """One line on what the published form of an FRA state dict cannot express; None if it expresses everything."""
    if "online.prototypes" in state and not _count_layers(state):
        return (
            "model.prototypes=clusters has no counterpart in the published form: prototypes are written as neck.proto, "
            "where its inference looks for them, but there is no region decoder (neck.proj_attn), so it cannot train on"
        )
    if f"online.{_OFFSET}" in state:
        return (
            "model.decoder.query_offset has no counterpart in the published form: offsets of queries are left out. "
            "Inference is the same, since prototypes are stored; training on would begin with other mask embeddings"
        )
    if "online.pixel_projector.linear1.weight" in state and "online.local_projector.linear1.weight" not in state:
        return (
            "a model without regions has no pixel projections in the published form: those of the correspondence term "
            "are written as neck.proj_pixel"
        )
    return None


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a published file under our names, ready for `FRA.load_state_dict`.

    A `module.` in front of every key (left by DataParallel) and the buffer `center` are dropped. Raises CheckpointError
    on keys that are unknown or missing and on weights whose shape is not that of a 1×1 convolution.
    """
    if state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    state = {key: value for key, value in state.items() if key != "center"}
    table = _table(state, ours=False)
    return {table[key][0]: _without_ones(key, value, table[key][1]) for key, value in state.items()}


def _at_rest(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Queries with their shifts added, and without the buffers of revival (`models/revival.py`)."""
    out = {key: value for key, value in state.items() if not key.startswith("revival.") and not key.endswith("_shift")}
    for weight, shift in (("queries", "query_shift"), ("query_offset", "offset_shift")):
        for network in ("online", "target"):
            if f"{network}.decoder.{shift}" in state:
                key = f"{network}.decoder.{weight}"
                out[key] = state[key] + state[f"{network}.decoder.{shift}"]
    return out


def _without_ones(key: str, value: Tensor, count: int) -> Tensor:
    if count and (value.dim() <= count or any(size != 1 for size in value.shape[-count:])):
        raise CheckpointError(f"{key} should end in {count} dimensions of 1, but has shape {tuple(value.shape)}")
    return value.reshape(value.shape[: value.dim() - count])


def _table(state: Mapping[str, Tensor], ours: bool) -> dict[str, tuple[str, int]]:
    """Key of `state` -> (the other side's key, trailing ones on the published side)."""
    networks = (("online.", "online_net."), ("target.", "target_net."))
    pairs = [*_head("predictor", "predictor")]
    local = any("proj_obj" in key or "local_projector" in key for key in state)
    pixels = local or any("proj_pixel" in key or "pixel_projector" in key for key in state)
    if local:
        pairs += _head("local_predictor", "predictor_obj")
    layers = _count_layers(state)
    for own, published in networks:
        pairs += [(own + a, published + b, ones) for a, b, ones in _network(local, pixels, layers)]
    table = {(a if ours else b): (b if ours else a, ones) for a, b, ones in pairs}
    missing = sorted(table.keys() - state.keys())
    for own, published in networks:
        here, there = (own, published) if ours else (published, own)
        backbone = {key: (there + key.removeprefix(here), 0) for key in state if key.startswith(f"{here}backbone.")}
        missing += [] if backbone else [f"{here}backbone.*"]
        table |= backbone
    _refuse(sorted(state.keys() - table.keys()), missing, "our" if ours else "the published")
    return table


def _refuse_path(state: Mapping[str, Tensor]) -> None:
    """The path is a part of a ResNet here and of nothing there; its heads take the channels of its map."""
    path = sorted(key for key in state if ".backbone.pyramid." in key)
    if path and any(".backbone.layer4." in key for key in state):
        raise CheckpointError(
            f"{path[0]} has no counterpart in the published form ({len(path)} such keys of the top-down path), and the "
            "heads take its map: only models trained with model.map_stride=32 can be written in it. Nearest: "
            "fra-dist export --format torchvision for the ResNet without the path, network or onnx for all of it"
        )


def _refuse(unknown: list[str], missing: list[str], whose: str) -> None:
    if unknown:
        raise CheckpointError(f"{unknown[0]} is not one of {whose} names of FRA ({len(unknown)} such keys)")
    if missing:
        raise CheckpointError(f"{missing[0]} is missing from the weights ({len(missing)} such keys)")


def _network(local: bool, pixels: bool, layers: int) -> list[tuple[str, str, int]]:
    pairs = _head("projector", "neck.proj")
    if pixels:
        pairs += _head("pixel_projector", "neck.proj_pixel")
    if not local:
        return pairs
    pairs += _head("local_projector", "neck.proj_obj")
    pairs.append(("prototypes", "neck.proto", 0))
    return pairs + _decoder(layers) if layers else pairs


def _decoder(layers: int) -> list[tuple[str, str, int]]:
    pairs: list[tuple[str, str, int]] = []
    attn = "neck.proj_attn."
    pairs.append(("decoder.queries", f"{attn}query_embed.weight", 0))
    pairs.append(("decoder.input_projection.weight", f"{attn}input_proj.weight", 2))
    pairs.append(("decoder.input_projection.bias", f"{attn}input_proj.bias", 0))
    pairs += _same(f"decoder.norm.{n}" for n in _AFFINE)
    pairs += [(f"decoder.embed.{i}.{n}", f"{attn}mask_embed.layers.{i}.{n}", 0) for i in range(3) for n in _AFFINE]
    for i in range(layers):
        layer = f"decoder.layers.{i}."
        for own, published in (("self_attention", "self_attn"), ("cross_attention", "multihead_attn")):
            there = f"{attn}transformer.{layer}{published}."
            for n in _AFFINE:
                pairs.append((f"{layer}{own}.in_{n}", f"{there}in_proj_{n}", 0))
                pairs.append((f"{layer}{own}.out.{n}", f"{there}out_proj.{n}", 0))
        parts = ("linear1", "linear2", "norm1", "norm2", "norm3")
        pairs += _same(f"{layer}{part}.{n}" for part in parts for n in _AFFINE)
    return pairs


def _same(names: Iterable[str]) -> list[tuple[str, str, int]]:
    return [(name, f"neck.proj_attn.transformer.{name}", 0) for name in names]


def _head(own: str, published: str) -> list[tuple[str, str, int]]:
    norm = [(f"{own}.norm.{n}", f"{published}.mlp.1.{n}", 0) for n in _NORM]
    linear = [(f"{own}.linear{i}.weight", f"{published}.mlp.{j}.weight", 1) for i, j in ((1, 0), (2, 3))]
    return [*linear, *norm]


def _count_layers(state: Iterable[str]) -> int:
    found = (re.search(r"decoder\.layers\.(\d+)\.", key) for key in state)
    return max((int(match[1]) + 1 for match in found if match), default=0)
