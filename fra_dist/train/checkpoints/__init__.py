"""Checkpoints: reading and verifying, writing in the background, keeping, comparing and averaging them."""
