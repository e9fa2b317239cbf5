"""Training: the loop (`trainer`), what it is put together from (`prepare`) and what a step does (`step`).

    engines        what carries forward, backward and update: DeepSpeed or plain PyTorch
    optim          LARS, the EMA of the target, schedules, parameter groups
    checkpoints    reading, writing, comparing and keeping checkpoints
    run_dir        the run folder, its files and who may write to it
    hooks          what happens around a step: metrics, checkpoints, alarms, progress
    liveness       watchdog, heartbeats, pulse: no run hangs without a word

`trainer.Run` holds all parts of a run, and `trainer.Hook` is where other code takes part in its loop.
"""
