"""What a network says of a folder of photos or of shards, written to disk: embeddings, regions, heatmaps.

`sources` lists and decodes photos, `compute` runs the network, `parts` keeps what is done so far, `files` writes the
result, `layout` finds neighbours and a two-dimensional map.
"""
