"""Where rows of metrics go beside metrics.jsonl: one small class each, opened by `opening.open_sinks` on rank 0."""
