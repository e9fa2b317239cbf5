"""Evaluation: labelled data sets, features, readers, region scores and tasks; and embeddings of unlabelled photos."""
