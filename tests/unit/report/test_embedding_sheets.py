import numpy as np

from fra_dist.report.embedding_sheets import HEIGHT, WIDTH, Neighbours, Point, draw_map, draw_neighbours


def plain(value, side=20):
    return np.full((side, side, 3), value, np.uint8)


def test_photos_lie_where_their_places_say():
    places = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]] * 50)
    red, blue = plain((255, 0, 0)), plain((0, 0, 255))
    picture = np.asarray(draw_map([Point(red, 0, 0), Point(blue, 1, 1)], places, "title", "notes."))
    assert picture.shape == (HEIGHT, WIDTH, 3)
    where = {
        name: np.argwhere((picture == colour).all(-1)).mean(0)
        for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255)))
    }
    assert where["red"][0] > 0.8 * HEIGHT, "small y is at the bottom"
    assert where["red"][1] < 0.2 * WIDTH
    assert where["blue"][0] < 0.2 * HEIGHT
    assert where["blue"][1] > 0.8 * WIDTH


def test_photos_do_not_cover_one_another():
    places = np.random.default_rng(0).normal(size=(60, 2))
    red = plain((255, 0, 0))
    picture = np.asarray(draw_map([Point(red, 0, 0), Point(red, 0.0001, 0)], places, "", ""))
    count = (picture == (255, 0, 0)).all(-1).sum()
    assert count == 56 * 56, "one of the two"


def test_places_that_are_all_the_same_and_far_ones_are_drawn():
    draw_map([Point(plain(9), 1, 1)], np.ones((5, 2)), "", "")
    picture = np.asarray(
        draw_map([Point(plain((255, 0, 0)), 1e9, -1e9)], np.random.default_rng(0).normal(size=(300, 2)), "", "")
    )
    assert (picture == (255, 0, 0)).all(-1).sum() == 56 * 56, "inside the picture, at its edge"


def test_neighbours_stand_in_their_order_beside_the_photo():
    greys = [plain(60), plain(120), plain(180)]
    rows = [Neighbours(plain(240), greys, [0.9, 0.8, -0.1]), Neighbours(plain(240), greys[:1], [0.5])]
    picture = np.asarray(draw_neighbours(rows, "title", tile=40))
    columns = [np.argwhere((picture == value).all(-1))[:, 1].mean() for value in (240, 60, 120, 180)]
    assert columns == sorted(columns)
    assert (picture == 240).all(-1).sum() >= 2 * 40 * 40
