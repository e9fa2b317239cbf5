"""Does everything that a run needs work on this machine? One function a check, in a process beside this one.

    result.py       what a check says: ok, warn or fail, with the remedy
    subject.py      what is examined: run folder, shards, device, ranks
    machine.py      Python, memory, open files, clock, home, /dev/shm, TMPDIR
    network.py      host name, interfaces, free ports
    disks.py        locks on the run folder's file system, read speed of the shards
    clusters.py     SLURM and Ray
    arithmetic.py   torch, driver and GPU, bf16, Triton
    libraries.py    DALI and DeepSpeed
    rank_trial.py   collectives between ranks
    bounded.py      the process that does the checks, and the wait for its answers
    examine.py      the list of checks
    nodes.py        the same on every node of an allocation
    screen.py       findings as text

A check that hangs costs its time limit and nothing else: the process is killed, and one that the kernel does
not let go (a disk that does not answer) is left behind; the other checks are done in a new one.
"""
