"""Faults put into real trainings at random moments, and proof that each ends as one that was left alone.

draws.py      which faults, at which moments, from the seed
faults.py     what each kind does to a training; fault_files.py those that damage files
training.py   a small training in processes of its own, started again until it is done
campaign.py   the undisturbed trainings, all faults, the rows
table.py      the rows as a table, goodput
room.py       small disks that can be filled, without asking for rights that a user has not
slow_files.py files that take seconds to open
"""
