import socket

import pytest

from fra_dist.distributed import read_ranks, start
from fra_dist.errors import LaunchError, RendezvousError


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
    ],
)
def test_reads_each_scheme(env, expected):
    assert read_ranks(env) == expected


@pytest.mark.parametrize("env", [{"RANK": "0"}, {"RANK": "x", "WORLD_SIZE": "2"}, {"RANK": "2", "WORLD_SIZE": "2"}])
def test_incomplete_or_impossible(env):
    with pytest.raises(LaunchError, match=r"incomplete|not below"):
        read_ranks(env)


def test_a_port_that_another_program_has(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        with pytest.raises(RendezvousError, match=f"could not meet the others at 127.0.0.1:{port}: .*address already"):
            start("cpu")
