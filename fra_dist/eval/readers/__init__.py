"""Readers of a network's features: closed-form and iterative readers of frozen features, heads, and fine-tuning."""
