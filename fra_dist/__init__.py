"""fra_dist: distributed pre-training of face representations with Facial Region Awareness."""

__version__ = "0.1.0"
