"""Cross-attention of learnable queries over the pixels of a map, with a position code on the keys alone."""

from fra_dist.kernels.decoder_attention.api import KERNEL, decoder_attention, few
from fra_dist.kernels.decoder_attention.reference import plain_attention, reference

__all__ = ["KERNEL", "decoder_attention", "few", "plain_attention", "reference"]
