import re
from pathlib import Path

import numpy as np
import pytest

from fra_dist.report import embedding_map
from fra_dist.report.embedding_map import CLASSES, STEPS
from fra_dist.report.palette import CLASS_COLOURS, REGION_COLOURS, region_hex

# Linear RGB under full deuteranopia and protanopia (Machado, Oliveira and Fernandes 2009, table 1).
DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
TO_LMS = [[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]]
TO_LAB = [[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]]


def smallest_distance(colours, vision):
    value = colours / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(vision), 0, 1)
    lab = np.cbrt(seen @ np.transpose(TO_LMS)) @ np.transpose(TO_LAB)
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    return distance[np.triu_indices(len(lab), 1)].min()


@pytest.mark.parametrize("vision", [np.eye(3), DEUTERANOPIA, PROTANOPIA], ids=["normal", "deuteranopia", "protanopia"])
@pytest.mark.parametrize(("regions", "distance"), [(8, 0.07), (16, 0.07), (64, 0.04)])
def test_colours_differ_for_every_reader(vision, regions, distance):
    assert smallest_distance(REGION_COLOURS[:regions].astype(float), vision) > distance


def test_there_is_a_colour_for_each_region_a_config_allows():
    assert REGION_COLOURS.shape == (64, 3)
    assert region_hex(0) == "#e69f00"
    assert len(CLASS_COLOURS) == 7


@pytest.mark.parametrize("vision", [np.eye(3), DEUTERANOPIA, PROTANOPIA], ids=["normal", "deuteranopia", "protanopia"])
@pytest.mark.parametrize("paper", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("kind", "count"), [("k", CLASSES), ("n", STEPS)])
def test_colours_of_a_map_differ_for_every_reader(kind, count, paper, vision):
    style = (Path(embedding_map.__file__).parent / "map.css").read_text()
    rule = style.split("@media (prefers-color-scheme: dark)")[paper].split("@media")[0]
    codes = re.findall(rf"--{kind}\d: #([0-9a-f]{{6}})", rule)
    assert len(codes) == count
    assert smallest_distance(np.array([tuple(bytes.fromhex(code)) for code in codes], float), vision) > 0.07
