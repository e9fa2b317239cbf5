"""What is looked at before a run is started: whether it can work, and whether the nodes can."""
