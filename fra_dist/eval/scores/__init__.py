"""Scores: metrics as pure functions, their bootstrap intervals, and how labels and photos are drawn."""
