"""How passes through the networks are done, with the same numbers: what is computed again, and what is rounded together."""
