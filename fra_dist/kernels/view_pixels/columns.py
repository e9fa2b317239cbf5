"""The numbers that say how a view is finished: one row of float32 for each image, and what stands in which column."""

ORDER = 0
"""Four columns: the operations of the colour jitter in the order in which they are applied."""
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
"""What an operation is called in the columns of ORDER, and which of the columns of FACTORS is its own."""
FACTORS = 4
"""Four columns: the factors of brightness, contrast and saturation (1: none), and the hue's shift in circles (0)."""
GREY = 8
"""Whether the view becomes grey: 1 or 0."""
RADIUS = 9
"""Half width of the blur in pixels; 0 where the view is not blurred."""
SOLARISE = 10
"""Values from this one up are inverted; 256: none."""
FLIP = 11
"""Whether the view is mirrored left to right: 1 or 0."""
MEAN = 12
"""Three columns: what is subtracted from each channel, in levels of 0 to 255."""
SCALE = 15
"""Three columns: what each channel is then multiplied by."""
WEIGHTS = 18
"""From here on: the weight of the blur's middle pixel, of its neighbours, of the next; 0 beyond RADIUS."""
