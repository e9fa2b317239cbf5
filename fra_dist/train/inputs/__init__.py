"""What a run begins with, besides its configuration: photos, shards and weights that are there or are refused."""
