import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from fra_dist.distributed.environment import first_host, several_nodes
from fra_dist.distributed.interface import (
    VARIABLE,
    choose_interface,
    interface_of,
    local_address,
    only_here,
    resolve,
)
from fra_dist.errors import LaunchError, RendezvousError

LISTS = {
    "linux[1,2]": "linux1",
    "alpha,beta,gamma": "alpha",
    "nodeA,nodeB[001,003],nodeC": "nodeA",
    "gpu[003-004,009],login": "gpu003",
    "n[01-04].hpc.uni.edu": "n01.hpc.uni.edu",
    "rack[1-2]node[01-04]": "rack1node01",
    "r[1-2]i[0-3]n[3-9],r7": "r1i0n3",
    "node[7-8]-ib[001-002]": "node7-ib001",
}


@pytest.mark.parametrize("nodes", LISTS)
def test_the_first_host_of_a_node_list(nodes):
    assert first_host(nodes) == LISTS[nodes]


@pytest.mark.parametrize("nodes", ["", "gpu[1-", "[", "a b"])
def test_what_is_no_node_list(nodes):
    with pytest.raises(LaunchError, match="set MASTER_ADDR"):
        first_host(nodes)


def test_a_name_without_an_address_is_one_line_with_the_cure():
    began = time.monotonic()
    with pytest.raises(RendezvousError, match=r"cannot find the address of no-such\.invalid.*MASTER_ADDR") as raised:
        resolve("no-such.invalid")
    assert "\n" not in str(raised.value)
    assert time.monotonic() - began < 60


def chosen(host: str, world: int, environments: dict[int, dict[str, str]]) -> dict[int, dict[str, str]]:
    """What the ranks of this machine have in their environments after they chose."""
    store = dist.HashStore()
    store.set_timeout(timedelta(seconds=20))
    with ThreadPoolExecutor(world) as pool:
        for done in [
            pool.submit(choose_interface, host, store, rank, world, environments[rank]) for rank in range(world)
        ]:
            done.result(60)
    return environments


def test_loopback_is_good_enough_where_all_ranks_are_on_one_machine():
    assert chosen("127.0.0.1", 3, {0: {}, 1: {}, 2: {}}) == {0: {}, 1: {}, 2: {}}


def test_what_the_user_chose_stays():
    mine = {VARIABLE: "eth7"}
    assert chosen("127.0.0.1", 2, {0: dict(mine), 1: dict(mine)}) == {0: mine, 1: mine}


def test_an_address_that_only_its_own_machine_reaches():
    assert re.search("127.0.0.1.*no other machine reaches.*/etc/hosts.*MASTER_ADDR", only_here("127.0.0.1"))
    assert only_here("203.0.113.7") == ""


def test_the_interface_of_an_address():
    assert interface_of(local_address("127.0.0.1")) in [name for _, name in socket.if_nameindex()]
    assert interface_of("203.0.113.7") is None


def test_several_nodes():
    assert several_nodes({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"})
    assert not several_nodes({"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"})
    step = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "0"}
    assert several_nodes({**step, "SLURM_NNODES": "2"})
    assert not several_nodes({**step, "SLURM_NNODES": "2", "SLURM_STEP_NUM_NODES": "1"})
    assert not several_nodes({})
