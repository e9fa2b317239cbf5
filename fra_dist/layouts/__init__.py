"""Files of weights, of this package and of other tools: reading them, telling them apart, and giving them our names."""
