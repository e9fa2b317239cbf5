"""The names of the evaluation tasks, which the help of `fra-dist eval` needs without anything else."""

TASKS = ("expression", "attributes", "alignment", "verification", "regions", "consistency")
"""In the order in which `all` runs them."""
