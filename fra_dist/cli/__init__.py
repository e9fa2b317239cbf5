"""The `fra-dist` command line: one module for each sub-command, with no domain code of its own."""
