"""Optimisation: LARS, the EMA of the target network, parameter groups, and the schedules."""
