import pytest

from fra_dist.dist import read_ranks
from fra_dist.errors import LaunchError


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
