import socket
import time

import pytest

from fra_dist.distributed.environment import first_host, several_nodes
from fra_dist.distributed.interface import VARIABLE, choose_interface, interface_of, local_address, resolve
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


def test_loopback_is_good_for_one_machine_and_refused_for_several():
    environment = {}
    choose_interface("127.0.0.1", several_nodes=False, environment=environment)
    assert environment == {}
    with pytest.raises(RendezvousError, match=r"no other node reaches.*/etc/hosts"):
        choose_interface("127.0.0.1", several_nodes=True, environment=environment)
    choose_interface("127.0.0.1", several_nodes=True, environment={VARIABLE: "eth7"})  # the user knows better


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
