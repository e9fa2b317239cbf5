"""The tasks: what each asks of a network, by which protocol, and how it is scored."""
