"""From raw photos to training crops: where the face is, its crop, the crop's quality, and near-copies."""
