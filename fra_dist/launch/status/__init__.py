"""What is known of a run from its files, and how `fra-dist status` shows it."""
