"""How passes through the networks are done, with the same numbers: what is computed again or rounded together."""
