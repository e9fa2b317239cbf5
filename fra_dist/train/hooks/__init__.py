"""Hooks around the steps of a run: metrics, progress, checkpoints, collapse alarms, stragglers, sample logs."""
