import socket
from datetime import timedelta
from pathlib import Path

import pytest

from fra_dist.distributed import read_ranks, start
from fra_dist.distributed.context import _store
from fra_dist.distributed.environment import read_launch, read_rendezvous, several_nodes
from fra_dist.distributed.interface import listen_at
from fra_dist.errors import LaunchError, RendezvousError

OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
OPEN_MPI |= {"OMPI_COMM_WORLD_LOCAL_SIZE": "2", "PMIX_NAMESPACE": "prterun-7"}
MPICH = {"PMI_RANK": "3", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
DAEMON = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_ID": "7"}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, (0, 1, 0, 0)),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "GROUP_RANK": "1"}, (3, 4, 1, 1)),
        (
            {"SLURM_STEP_ID": "0", "SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_NODEID": "2"},
            (5, 8, 1, 2),
        ),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"}, (0, 1, 0, 0)),  # in an allocation, outside a job step
        (OPEN_MPI, (3, 4, 1, 1)),
        (MPICH, (3, 4, 1, 1)),
        ({**OPEN_MPI, **DAEMON}, (3, 4, 1, 1)),  # srun started mpirun's daemons, one a node
        ({"PMI_RANK": "0", "PMI_SIZE": "1", "MPI_LOCALRANKID": "0"}, (0, 1, 0, 0)),
        ({**OPEN_MPI, "RANK": "0", "WORLD_SIZE": "2"}, (0, 2, 0, 0)),  # torchrun below mpirun
        ({**DAEMON, "SLURM_PROCID": "1", "PMI_RANK": "1", "PMI_SIZE": "2"}, (1, 2, 0, 0)),  # srun --mpi=pmi2
    ],
)
def test_reads_each_scheme(env, expected):
    assert read_ranks(env) == expected


BROKEN = [{"RANK": "0"}, {"RANK": "x", "WORLD_SIZE": "2"}, {"RANK": "2", "WORLD_SIZE": "2"}]
BROKEN += [{"PMI_RANK": "1", "PMI_SIZE": "2"}]  # which GPU?


@pytest.mark.parametrize(
    ("more", "alone"),
    [({}, False), ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "0"}, True), ({"OMPI_COMM_WORLD_SIZE": "1"}, True)],
)
def test_a_rank_of_pmix_alone_does_not_train_by_itself(more, alone):
    env = {"PMIX_RANK": "0", "PMIX_NAMESPACE": "prterun-7", **more}
    if alone:
        assert read_ranks(env) == (0, 1, 0, 0)
    else:
        with pytest.raises(LaunchError, match="nothing says how many ranks"):
            read_ranks(env)


@pytest.mark.parametrize("env", BROKEN)
def test_incomplete_or_impossible(env):
    with pytest.raises(LaunchError, match=r"incomplete|not below"):
        read_ranks(env)


def test_where_the_ranks_of_mpirun_meet():
    alone = {**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}
    host, port = read_rendezvous(alone)
    assert host == "127.0.0.1"
    assert read_rendezvous({**alone, "OMPI_COMM_WORLD_RANK": "0"}) == (host, port)
    assert read_rendezvous({**alone, "PMIX_NAMESPACE": "prterun-8"}) != (host, port)
    assert read_rendezvous(OPEN_MPI) is None  # two nodes: someone must say where rank 0 is
    assert read_rendezvous({**OPEN_MPI, "MASTER_ADDR": "n1", "MASTER_PORT": "29500"}) == ("n1", 29500)
    assert several_nodes(OPEN_MPI)
    assert not several_nodes(alone)
    assert not several_nodes({k: v for k, v in OPEN_MPI.items() if "LOCAL_SIZE" not in k})
    assert read_launch(OPEN_MPI) == read_launch({**OPEN_MPI, "OMPI_COMM_WORLD_RANK": "0"})


def test_ranks_meet_at_one_address_of_rank_0_only():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store = _store("127.0.0.1", port, 0, 1, timedelta(seconds=20))
    store.set("key", "value")
    assert store.get("key") == b"value"
    rows = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    four, six = ([line.split()[1] for line in lines if " 0A " in line] for lines in rows)  # 0A: it listens
    assert [place for place in four if place.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]
    assert [place for place in six if place.endswith(f":{port:04X}")] == []


def test_a_host_that_is_not_this_machine_is_listened_for_at_all_addresses():
    handle = listen_at("192.0.2.1", 0)  # an address of no machine
    with socket.socket(fileno=handle) as server:
        assert server.getsockname()[0] == "0.0.0.0"


def test_a_port_that_another_program_has(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        with pytest.raises(RendezvousError, match=f"others at 127.0.0.1:{port}: .*[Aa]ddress already"):
            start("cpu")
