"""The command line below the commands: the order of words, their types, their help."""
