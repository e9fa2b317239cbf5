"""What the size of a map allows: how well regions can match the parts of a face that are smaller than its cells."""

PARTS_CEILING = {2: 0.03, 3: 0.02, 4: 0.03, 5: 0.12, 6: 0.13, 7: 0.23, 8: 0.35, 14: 0.60, 16: 0.69, 28: 0.84, 32: 0.86}
"""Side of a map -> NMI on eyes, nose and mouth of the true masks averaged to it: `benchmarks/map_ceiling.py` on 119
photos of faces."""
COARSE = 7
"""Side of a map below which its regions cannot be parts of a face."""


def parts_ceiling(side: int) -> float:
    """NMI on facial parts of a perfect segmentation at a map of that side; of the nearest side that was measured."""
    return PARTS_CEILING[min(PARTS_CEILING, key=lambda known: abs(known - side))]


def coarse_map_warning(height: int, width: int) -> str | None:
    """One line for a map (height, width) that is too coarse for regions that are parts of a face; None for others."""
    side = min(height, width)
    if side >= COARSE:
        return None
    return (
        f"regions on a map of {height}x{width} are coarser than the parts of a face: true masks averaged to such a map "
        f"reach an NMI of {parts_ceiling(side):.2f} on eyes, nose and mouth, and of {PARTS_CEILING[16]:.2f} at 16x16; "
        "lower model.map_stride (ResNets), use model.backbone=fpn_small, or raise data.image_size"
    )
