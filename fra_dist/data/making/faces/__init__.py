"""From raw photos to training crops: where the face is, the crop, what is good enough, and what is there twice."""
