"""How many workers an elastic run uses, and which rank each of them is; arithmetic only."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fra_dist.config import Config
from fra_dist.errors import ConfigError, LaunchError
from fra_dist.train.sizes import share_of_rank, worlds_that_fit


@dataclass(frozen=True)
class Bounds:
    """The bounds of the number of workers of an elastic run."""

    low: int
    """The smallest number of workers."""
    high: int
    """The largest number of workers."""

    @classmethod
    def parse(cls, text: str, option: str = "--workers") -> "Bounds":
        """Parse `4` or `2:16`. Raises LaunchError, which names the option, for anything else."""
        match = re.fullmatch(r"(\d+)(?::(\d+))?", text)
        low = int(match[1]) if match else 0
        high = int(match[2] or low) if match else 0
        if not 1 <= low <= high:
            raise LaunchError(f"{option} {text}: give a number above 0, or MIN:MAX")
        return cls(low, high)


@dataclass(frozen=True)
class AgentHost:
    """The node on which an agent, which runs one rank, has been placed: its name, address and GPUs."""

    node: str
    """The name of the node, as the cluster knows it."""
    address: str
    """The address at which other nodes reach it."""
    gpus: int = 0
    """The number of GPUs that the agent sees."""


def world_sizes(config: Config, bounds: Bounds) -> tuple[int, ...]:
    """Return the numbers of workers, ascending, over which the global batch can be divided.

    Raises ConfigError, which names the nearest sizes, when there is none within the bounds.
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
    """Return the largest of `sizes` that `free` workers allow; 0 when there are too few."""
    return max((w for w in sizes if w <= free), default=0)


def rank_order(places: Sequence[AgentHost]) -> list[int]:
    """Return the indices of `places` in the order of their ranks: nodes together, by address as numbers."""
    return sorted(range(len(places)), key=lambda i: (_number(places[i].address), places[i].node, i))


def rank_environments(places: Sequence[AgentHost], port: int) -> list[Mapping[str, str]]:
    """Return torchrun's variables for each rank; `places` are in the order of the ranks, `port` is free on the first.

    A worker that sees a single GPU calls it device 0, whichever number the GPU has on its node.
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
