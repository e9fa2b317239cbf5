"""Which node hosts the place to meet: torchrun's own guess fails where a machine's name is 127.0.1.1."""

import socket

import pytest

from fra_dist.distributed.interface import local_address
from fra_dist.errors import RendezvousError
from fra_dist.launch import torchrun
from fra_dist.launch.torchrun import Topology, _host_here, _split

HOST = "--rdzv-conf=is_host=1"


@pytest.fixture
def address():
    """An address of this machine that other machines reach."""
    try:
        found = local_address("192.0.2.1")
    except OSError:
        found = "127.0.0.1"
    if found.startswith("127."):
        pytest.skip("this machine has no address but its own")
    return found


@pytest.fixture
def named(monkeypatch):
    """A function that gives this machine's name an address."""
    known = socket.getaddrinfo

    def give(own):
        monkeypatch.setattr(socket, "gethostname", lambda: "box.invalid")
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *rest, **more: known(own if host == "box.invalid" else host, *rest, **more),
        )

    return give


def free_port(address):
    with socket.create_server((address, 0)) as server:
        return server.getsockname()[1]


def test_a_machine_whose_name_leads_to_itself_hosts_at_its_address(address, named):
    named("127.0.1.1")
    place = f"{address}:{free_port(address)}"
    assert _host_here(place) == [HOST]
    assert HOST in Topology(nodes="2", rendezvous=place).arguments()


def test_torchrun_guesses_right_where_the_name_has_the_address(address, named):
    named(address)
    assert _host_here(f"{address}:{free_port(address)}") == []


def test_a_second_node_of_the_same_machine_does_not_host(address, named):
    named("127.0.1.1")
    with socket.create_server((address, 0)) as server:
        assert _host_here(f"{address}:{server.getsockname()[1]}") == []


def test_other_addresses_are_not_hosted_here(named):
    named("127.0.1.1")
    assert _host_here("203.0.113.7:29400") == []
    assert _host_here("127.0.0.1:29400") == []
    assert _host_here("localhost") == []


@pytest.mark.parametrize(
    ("place", "parts"),
    [
        ("node1:29500", ("node1", 29500)),
        ("node1", ("node1", 29400)),
        ("[fe80::1]:7", ("fe80::1", 7)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
    ],
)
def test_host_and_port(place, parts):
    assert _split(place) == parts


def test_nodes_that_never_met_are_named(tmp_path, monkeypatch):
    """torchrun that ends before any rank of its was started, as after a minute without the other nodes."""
    monkeypatch.setattr(torchrun, "torchrun_words", lambda topology: ["/bin/sh", "-c", "exit 1", "torchrun"])
    launch = torchrun.Launch(tmp_path, ("true",))
    with pytest.raises(RendezvousError, match=r"the nodes did not meet at 10\.0\.0\.1:7: .* 2 nodes") as raised:
        torchrun.run_torchrun(launch, Topology(nodes="2", rendezvous="10.0.0.1:7"))
    assert raised.value.exit_status == 1
