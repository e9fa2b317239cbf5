"""How many workers an elastic run uses, and which rank each of them is. Arithmetic only."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fra_dist.config import Config
from fra_dist.errors import ConfigError, LaunchError
from fra_dist.train.sizes import share_of_rank, worlds_that_fit


@dataclass(frozen=True)
class Bounds:
    """At least `low` workers, at most `high`."""

    low: int
    high: int

    @classmethod
    def parse(cls, text: str) -> "Bounds":
        """`4` or `2:16`. Raises LaunchError."""
        match = re.fullmatch(r"(\d+)(?::(\d+))?", text)
        low = int(match[1]) if match else 0
        high = int(match[2] or low) if match else 0
        if not 1 <= low <= high:
            raise LaunchError(f"--workers {text}: give a number above 0, or MIN:MAX")
        return cls(low, high)


@dataclass(frozen=True)
class Place:
    """Where one agent runs: `node` as the cluster names it, `address` that other nodes reach, the GPUs it sees."""

    node: str
    address: str
    gpus: int = 0


def world_sizes(config: Config, bounds: Bounds) -> tuple[int, ...]:
    """The numbers of workers, ascending, over which the global batch can be divided.

    Raises ConfigError that names the nearest sizes when there is none within the bounds.
    """
    fitting = worlds_that_fit(config)
    sizes = tuple(w for w in fitting if bounds.low <= w <= bounds.high)
    if sizes:
        return sizes
    if not fitting:
        share_of_rank(config, bounds.low)  # says what is wrong
    near = sorted(sorted(fitting, key=lambda w: min(abs(w - bounds.low), abs(w - bounds.high)))[:4])
    raise ConfigError(
        f"train.global_batch={config.train.global_batch} cannot be divided over {bounds.low} to {bounds.high} workers: "
        f"use {', '.join(map(str, near))} workers, or another train.global_batch or train.micro_batch"
    )


def largest(sizes: Sequence[int], free: int) -> int:
    """The largest of `sizes` that `free` workers allow; 0 when there are too few."""
    return max((w for w in sizes if w <= free), default=0)


def rank_order(places: Sequence[Place]) -> list[int]:
    """Indices of `places` in the order of their ranks: nodes together, by address as numbers."""
    return sorted(range(len(places)), key=lambda i: (_number(places[i].address), places[i].node, i))


def rank_environments(places: Sequence[Place], port: int) -> list[Mapping[str, str]]:
    """torchrun's variables for each rank; `places` in the order of the ranks.

    A worker that sees one GPU alone calls it device 0, whichever number it has on its node.
    """
    nodes = list(dict.fromkeys(place.node for place in places))
    on_node = dict.fromkeys(nodes, 0)
    environments: list[Mapping[str, str]] = []
    for rank, place in enumerate(places):
        local = 0 if place.gpus == 1 else on_node[place.node]
        on_node[place.node] += 1
        environments.append(
            {
                "RANK": str(rank),
                "WORLD_SIZE": str(len(places)),
                "LOCAL_RANK": str(local),
                "GROUP_RANK": str(nodes.index(place.node)),
                "MASTER_ADDR": places[0].address,
                "MASTER_PORT": str(port),
            }
        )
    return environments


def _number(address: str) -> tuple[int, str]:
    try:
        return int(ipaddress.ip_address(address)), ""
    except ValueError:
        return 0, address
