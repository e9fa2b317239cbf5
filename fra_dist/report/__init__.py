"""Reports: pictures of regions and embeddings, curves, and the pages that show them."""
