"""Starting a run on one machine, under SLURM or on Ray, and starting it again after a fault.

    trainer_command     the resolved configuration in the run folder, and the command line of one rank
    task, pulse_watch   one rank: the trainer as a subprocess, and a record of how it ended
    outcome             those records -> complete, stopped, refused or failed, and why
    ledger              the state of a launch over its attempts, and when there is another attempt
    torchrun            one machine, or one node of several
    slurm, slurm_job    submission through submitit, and what runs inside the job
    slurm_following     watching the job from outside; scontrol: asking SLURM's controller
    elastic             the driver of a run on Ray; ray_cluster: all that is Ray's; world: how many workers
    run_status          what `fra-dist status` shows
    resume_trial, resume_verdict    proof that a stopped and resumed run equals one that was left alone
    chaos               faults put into real trainings

Launchers start each rank through `task`, so that signals, logs and records are the same under all of them.
"""
