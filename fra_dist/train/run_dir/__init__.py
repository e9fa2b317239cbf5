"""The run folder: what is in it, who may write to it, and whether all ranks see it."""
