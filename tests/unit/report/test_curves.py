import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from fra_dist.report.curves import (
    INK,
    draw_curves,
    for_dark_paper,
    has_data,
    moving_mean,
    panel_svg,
    probe_panels,
    series,
)


def rows(count=30, drop=0.02, **more):
    return [
        {
            "step": 5 * i,
            "loss/total": 3 - drop * i,
            "loss/relation": 2.08 - drop * i,
            "loss/global": 3.0,
            "lr": 0.1,
            "regions/in_use": 8.0,
            **more,
        }
        for i in range(count)
    ]


def test_curves_of_one_run_and_of_several(tmp_path):
    draw_curves({"fra": rows()}, tmp_path / "deep" / "one.png")
    draw_curves({"fra": rows(), "published": rows(drop=0.0)}, tmp_path / "two.png")
    one, two = (np.asarray(Image.open(tmp_path / name)) for name in ("deep/one.png", "two.png"))
    assert one.shape == two.shape
    assert one.shape[1] > 1000
    assert (one != two).any()


@pytest.mark.parametrize("found", [[], [{"step": 1}], [{"loss/total": 3.0}], [{"step": 1, "loss/total": float("nan")}]])
def test_runs_without_values_draw_nothing(tmp_path, found):
    draw_curves({"fra": found}, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_values_that_are_missing_or_not_finite_are_left_out():
    found = [
        {"step": 1, "a": 1.0},
        {"step": 2},
        {"step": 3, "a": float("inf")},
        {"step": 4, "a": 2},
        {"step": 5, "a": None},
    ]
    steps, values = series(found, "a")
    assert (steps.tolist(), values.tolist()) == ([1, 4], [1, 2])


def test_only_panels_with_data_are_drawn():
    assert has_data("relation", {"fra": rows()})
    assert not has_data("queries", {"fra": rows()})
    assert has_data("queries", {"byol": [], "fra": rows(**{"queries/cosine": 0.1})})


def test_the_relation_panel_shows_the_saddle(monkeypatch):
    seen = []
    original = Figure.savefig

    def keep(figure, *args, **kwargs):
        seen.append(figure)
        return original(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    panel_svg("relation", {"fra": rows()}, regions=5)
    axes = seen[0].axes[0]
    levels = {round(float(line.get_ydata()[0]), 4) for line in axes.lines if len(set(line.get_ydata())) == 1}
    assert {round(math.log(5), 4), round(0.75 * math.log(5), 4)} <= levels
    low, high = axes.get_ylim()
    assert low < 0.75 * math.log(5) < math.log(5) < high


def test_svg_panels_are_self_contained_and_repeatable():
    runs = {"fra": rows(200), "byol": rows(3)}
    for name in ("relation", "consistency"):
        picture = panel_svg(name, runs)
        assert picture == panel_svg(name, runs)
        assert b'href="http' not in picture
        assert b"<text" not in picture


def test_dark_pictures_differ_in_their_colours_alone():
    light = panel_svg("total", {"fra": rows(), "byol": rows(drop=0)})
    dark = for_dark_paper(light)
    assert INK.encode() in light
    assert INK.encode() not in dark
    without = re.compile(rb"#[0-9a-f]{6}")
    assert without.sub(b"", light) == without.sub(b"", dark)
    assert len(set(without.findall(dark))) == len(set(without.findall(light)))


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50), st.integers(0, 12))
def test_smoothing_stays_in_range_and_keeps_the_ends(values, width):
    out = moving_mean(np.array(values), width)
    assert len(out) == len(values)
    assert out.min() >= min(values) - 1e-9
    assert out.max() <= max(values) + 1e-9
    assert out[0] == pytest.approx(values[0], abs=1e-9)


def test_smoothing_is_a_centred_mean():
    assert moving_mean(np.array([0.0, 0, 3, 0, 0]), 3).tolist() == pytest.approx([0, 1, 1, 1, 0])


def test_scores_measured_during_training_have_panels_of_their_own(tmp_path):
    scored = [
        {"step": 0, "probe/a/regions/heatmaps_nmi": 0.1, "probe/a/regions/heatmaps_ari": 0.2, "probe/seconds": 3},
        {"step": 9, "probe/a/regions/heatmaps_nmi": 0.3, "probe/b/attributes/linear_age_mae": 9.0},
    ]
    panels = probe_panels({"fra": [*rows(), *scored]})
    assert {title: list(panel.lines) for title, panel in panels.items()} == {
        "Probe a: regions": ["heatmaps nmi"],
        "Probe b: age, years": ["linear age mae"],
    }
    draw_curves({"fra": rows()}, tmp_path / "plain.png")
    draw_curves({"fra": [*rows(), *scored]}, tmp_path / "scored.png")
    plain, more = (Image.open(tmp_path / name).size for name in ("plain.png", "scored.png"))
    assert plain[0] * plain[1] < more[0] * more[1]
