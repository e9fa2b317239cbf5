"""Embeddings, regions and heatmaps of a folder of photos or of shards, written to disk.

`photo_stream` lists and decodes photos, `compute` runs the network, `pieces` keeps what is done so far, `embedding_run`
drives the three, `result_files` writes the result, and `neighbourhood` finds neighbours and a two-dimensional map.
"""
