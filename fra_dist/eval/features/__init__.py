"""Networks under test and their features: opening weights, preparing faces, extracting, and the cache of both."""
