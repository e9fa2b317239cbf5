import pytest

from fra_dist.distributed.environment import first_host, read_launch, read_ranks, read_rendezvous
from fra_dist.errors import LaunchError

STEP = {
    "SLURM_JOB_ID": "812",
    "SLURM_STEP_ID": "3",
    "SLURM_PROCID": "1",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "1",
    "SLURM_STEP_NODELIST": "gpu[003-004]",
}


@pytest.mark.parametrize(
    ("nodes", "host"),
    [("n1", "n1"), ("n1,n2", "n1"), ("gpu[003-004,9],x", "gpu003"), ("a[7,9]", "a7"), ("a[1-2]-ib", "a1-ib")],
)
def test_first_host(nodes, host):
    assert first_host(nodes) == host


def test_a_step_may_be_smaller_than_its_allocation():
    assert read_ranks(STEP) == (1, 2, 0, 1)


def test_rendezvous_of_a_step_is_shared_by_its_ranks_and_by_nobody_else():
    here = read_rendezvous(STEP)
    assert here == read_rendezvous({**STEP, "SLURM_PROCID": "0", "SLURM_NODEID": "0"})
    assert here[0] == "gpu003"
    others = [{"SLURM_STEP_ID": "4"}, {"SLURM_RESTART_COUNT": "1"}, {"SLURM_JOB_ID": "813"}]
    ports = {here[1], *(read_rendezvous({**STEP, **other})[1] for other in others)}
    assert len(ports) == 4
    assert all(10_000 <= port < 32_000 for port in ports)


def test_rendezvous_given_outright_wins_and_is_checked():
    assert read_rendezvous({**STEP, "MASTER_ADDR": "h", "MASTER_PORT": "5"}) == ("h", 5)
    assert read_rendezvous({}) is None
    with pytest.raises(LaunchError, match="MASTER_PORT=x is not a port"):
        read_rendezvous({"MASTER_ADDR": "h", "MASTER_PORT": "x"})


def test_names_of_launches():
    assert read_launch({"FRA_DIST_LAUNCH": "ray job 1", "FRA_DIST_ATTEMPT": "4", **STEP}).attempt == 4
    assert read_launch(STEP).name == "slurm job 812"
    assert read_launch({"TORCHELASTIC_RUN_ID": "r"}).name == "torchrun r"
    assert read_launch({}).name.startswith("process ")
