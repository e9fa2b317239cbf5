"""The ranks of `test_method_ranks.py`: FOLDER WORLD ... starts groups of those sizes and waits for them.

Each group writes WORLD.safetensors, what its ranks have together. The processes are forked here, where nothing but the
imports has run, so that torch is imported once.
"""

import multiprocessing
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from fra_dist.config import DecoderConfig, LossConfig, ModelConfig, ReviveConfig
from fra_dist.distributed import SINGLE, CrossRank, ProcessGroupRanks
from fra_dist.losses.geometry import Placement
from fra_dist.losses.total import fra_loss
from fra_dist.models.fra import FRA
from fra_dist.models.norm import BatchNorm

IMAGES = 24
WAYS = {
    "double": (torch.float64, 1, False),
    "double-accumulated": (torch.float64, 2, False),
    "grouped": (torch.float64, 1, True),
    "float": (torch.float32, 1, True),
}
"""Arithmetic, forward passes a step, and whether several ranks have both views in one pass; one rank never has."""
EXTENDED = "extended"


def one_step(
    cross: CrossRank, rank: int, dtype: torch.dtype, passes: int, grouped: bool
) -> tuple[FRA, dict[str, Tensor]]:
    """Loss terms and gradients of this rank's share of one fixed batch, means over forward passes.

    Pass i of all ranks together has part i of the batch, whatever the number of ranks.
    """
    if dtype == torch.float32:
        # one rounded number on the other side of ReLU's kink changes a gradient by a share, not by rounding
        functional.relu = lambda x, inplace=False: functional.silu(x)
        plain = BatchNorm.forward
        BatchNorm.forward = lambda self, x, rest=None, relu=False: _smooth(plain(self, x, rest), relu)
    torch.manual_seed(0)
    decoder = DecoderConfig(layers=1, heads=2, feedforward=16, dropout=0.0, query_offset=True)
    config = ModelConfig(backbone="tiny", regions=5, width=16, hidden=24, decoder=decoder)
    model = FRA(config, cross=cross).to(dtype)
    if grouped and cross.world > 1:
        model.group_views()
    for network in (model.online, model.target):
        for parameter in network.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape, dtype=torch.float64).to(dtype)
    views = torch.randn(2, IMAGES, 3, 32, 24, dtype=torch.float64) + torch.arange(IMAGES).view(1, -1, 1, 1, 1) / 6
    # rates that make the relation term and its parts over all ranks weigh as much as the others
    loss = LossConfig(relation=1.0, decorrelation=0.5)
    sums: dict[str, Tensor] = {}
    for part in views.to(dtype).chunk(passes, dim=1):
        own = part.chunk(cross.world, dim=1)[rank]
        terms = fra_loss(model(*own), loss, cross)
        (terms["total"] / passes).backward()
        sums = {name: sums.get(name, 0) + value.detach() / passes for name, value in terms.items()}
    return model, sums


def _smooth(x: Tensor, yes: bool) -> Tensor:
    return functional.silu(x) if yes else x


def extended_step(cross: CrossRank, rank: int) -> tuple[FRA, dict[str, Tensor]]:
    """The same in float64 with every extension of the method."""
    torch.manual_seed(1)
    decoder = DecoderConfig(layers=1, heads=2, feedforward=16, dropout=0.0, query_offset=True)
    sizes = {"regions": 5, "width": 16, "hidden": 24, "heatmap_temperature": 0.2}
    config = ModelConfig(backbone="tiny", decoder=decoder, revive_dead=ReviveConfig(share=0.15, steps=1), **sizes)
    model = FRA(config, cross=cross).double()
    if cross.world > 1:
        model.group_views()
    shift = torch.arange(IMAGES).view(1, -1, 1, 1, 1) / 6
    views = torch.randn(2, IMAGES, 3, 32, 24, dtype=torch.float64) + shift
    crops = torch.randn(2, IMAGES, 3, 16, 16, dtype=torch.float64) + shift
    corner = torch.randint(0, 30, (2, IMAGES, 2))
    boxes = torch.cat([corner, corner + torch.randint(10, 30, (2, IMAGES, 2))], dim=2)
    first, end = (number * IMAGES // cross.world for number in (rank, rank + 1))
    place = Placement(boxes, torch.rand(2, IMAGES) < 0.5).part(first, end)
    loss = LossConfig(relation=1.0, decorrelation=0.5, match="present", match_share=0.1, relation_match="geometry")
    terms = fra_loss(model(*views[:, first:end], *crops[:, first:end]), loss, cross, place)
    terms["total"].backward()
    model.revive_regions(seed=5)
    return model, {name: value.detach() for name, value in terms.items()}


def results(cross: CrossRank, rank: int, way: str) -> dict[str, Tensor]:
    """Means over ranks of the terms and of the gradients; buffers as this rank has them."""
    model, terms = extended_step(cross, rank) if way == EXTENDED else one_step(cross, rank, *WAYS[way])
    found = {f"term/{name}": value.double() for name, value in terms.items()}
    found |= {f"grad/{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    found = {name: cross.mean(value) for name, value in found.items()}
    return found | {f"buffer/{name}": value.clone() for name, value in model.named_buffers()}


def run_rank(folder: Path, world: int, rank: int) -> None:
    torch.set_num_threads(1)
    cross: CrossRank = SINGLE
    if world > 1:
        meet = f"file://{folder}/meet-{world}"
        dist.init_process_group("gloo", meet, timeout=timedelta(seconds=120), rank=rank, world_size=world)
        cross = ProcessGroupRanks()
    ways = ("double", "double-accumulated", "grouped", EXTENDED, "float")  # the last one changes torch
    together = {f"{way}|{name}": value for way in ways for name, value in results(cross, rank, way).items()}
    if rank == world - 1:  # buffers must be right on every rank; the last one has not the first images
        save_file({name: value.contiguous() for name, value in together.items()}, folder / f"{world}.safetensors")
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    places = [(Path(sys.argv[1]), int(world), rank) for world in sys.argv[2:] for rank in range(int(world))]
    processes = [fork.Process(target=run_rank, args=place, daemon=True) for place in places]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(any(process.exitcode for process in processes))
