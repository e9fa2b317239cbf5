"""Starting a run on one machine, under SLURM or on Ray, and starting it again after a fault.

prepare    what to run: the resolved configuration, kept in the run folder
task       one rank: the trainer as a subprocess, and a record of how it ended
outcome    those records -> complete, stopped, refused or failed, and why
ledger     the launch's own state and the rule for going on
slurm      submission through submitit; slurm_job: what runs inside the job
ray_cluster, world    the Ray driver and how many workers it uses
local      torchrun
overview   what `fra-dist status` shows
"""
