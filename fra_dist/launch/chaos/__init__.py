"""Faults put into real trainings at random moments, and proof that each training ends as one that was left alone.

    fault_draws       which faults, at which moments: a pure function of the seed
    process_faults    what the kinds of faults do to the processes of a training
    file_faults       what the kinds of faults do to checkpoints, shards and the disk
    trainings         a small training in processes of its own, started again until it is done
    trial             one fault, and the comparison with the undisturbed training
    campaign_setup    what all trainings of a campaign share
    campaign          the undisturbed trainings, all faults, the rows
    campaign_table    the rows as a table, and goodput
    small_disks       disks that can be filled, without rights that a user does not have
    slow_files        files that take seconds to open

`fra-dist chaos` runs a campaign.
"""
