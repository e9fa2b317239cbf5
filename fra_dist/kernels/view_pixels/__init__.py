"""The end of a view on a GPU: colours, blur, solarise, flip and normalisation in one kernel."""

from fra_dist.kernels.view_pixels.api import KERNEL, view_pixels

__all__ = ["KERNEL", "view_pixels"]
