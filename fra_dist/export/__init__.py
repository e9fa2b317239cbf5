"""Export: weights in and out of files, the backbone alone, the published names, and the model card."""
