import json
import os

import numpy as np
import pytest
from PIL import Image

from fra_dist.cli.main import main

RNG = np.random.default_rng(0)


def picture(width=40, height=40):
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def odd_photos(tmp_path):
    """A folder with every kind of photo and of broken file that users have."""
    folder = tmp_path / "photos of Ωmega é"
    (folder / "deep").mkdir(parents=True)
    picture().save(folder / "plain.jpg")
    picture(60, 30).save(folder / "wide.png")
    Image.new("RGB", (1, 1), (9, 9, 9)).save(folder / "one pixel.png")
    picture().convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(RNG.integers(0, 65536, (20, 30), dtype=np.uint16)).save(folder / "deep16.png")
    picture().convert("P").save(folder / "palette.gif")
    picture().convert("RGBA").save(folder / "clear.webp", lossless=True)
    picture().convert("L").save(folder / "grey.jpeg")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(60, 30).save(folder / "turned.jpg", exif=exif)
    picture().save(folder / "deep" / "файл 漢字.jpg")
    (folder / "text.jpg").write_text("not a photo")
    (folder / "empty.jpg").write_bytes(b"")
    whole = (folder / "plain.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("left alone")
    (folder / ".hidden.jpg").write_text("left alone")
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    return folder


def test_every_usable_photo_is_drawn_and_every_other_is_named(small_run, odd_photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["heatmaps", str(small_run), str(odd_photos), "--out", str(out), "--tile", "48", "--rows", "4"]) == 0
    said = capsys.readouterr()
    result = json.loads((out / "regions.json").read_text(encoding="utf-8"))
    drawn = {os.path.basename(photo["file"]): photo for photo in result["photos"]}
    skipped = {os.path.basename(gone["file"]): gone["reason"] for gone in result["skipped"]}
    assert set(drawn) == {
        "plain.jpg", "wide.png", "one pixel.png", "cmyk.jpg", "deep16.png", "palette.gif", "clear.webp", "grey.jpeg",
        "turned.jpg", "файл 漢字.jpg",
    }  # fmt: skip
    assert set(skipped) == {"text.jpg", "empty.jpg", "cut.jpg", "gone.jpg"}
    lines = [line for line in said.err.splitlines() if line.startswith("skipped")]
    assert len(lines) == 4
    assert all(skipped[name] and any(name in line for line in lines) for name in skipped)
    assert "10 photos drawn, 4 skipped" in said.out
    assert (drawn["turned.jpg"]["width"], drawn["turned.jpg"]["height"]) == (30, 60)
    assert drawn["wide.png"]["square"] == [15, 0, 45, 30]
    for photo in result["photos"]:
        assert sum(photo["shares"]) == pytest.approx(1.0, abs=1e-3)
        assert len(photo["shares"]) == result["regions"] == 5
        assert Image.open(out / photo["picture"]).width > 200
    assert result["sheets"] == ["sheet-01.png", "sheet-02.png", "sheet-03.png"]
    assert all((out / name).exists() for name in result["sheets"])
    assert result["step"] == 7


def test_files_patterns_and_a_limit(small_run, tmp_path, capsys):
    for i in range(5):
        picture().save(tmp_path / f"{i}.png")
    pattern, out = str(tmp_path / "[1-4].png"), tmp_path / "out"
    arguments = ["heatmaps", str(small_run), pattern, str(tmp_path / "2.png"), str(tmp_path / "no.png")]
    assert main([*arguments, "--out", str(out), "--limit", "3", "--tile", "40"]) == 0
    said = capsys.readouterr()
    names = [os.path.basename(p["file"]) for p in json.loads((out / "regions.json").read_text())["photos"]]
    assert names == ["1.png", "2.png", "3.png"]
    assert "no.png: no such file" in said.err
    assert "the first of 4 files" in said.out
    assert (out / "sheet.png").exists()


def test_the_same_photo_gives_the_same_picture(small_run, tmp_path):
    picture().save(tmp_path / "a.png")
    for out in ("one", "two"):
        main(["heatmaps", str(small_run), str(tmp_path / "a.png"), "--out", str(tmp_path / out), "--tile", "40"])
    assert (tmp_path / "one/sheet.png").read_bytes() == (tmp_path / "two/sheet.png").read_bytes()


def test_pictures_of_the_run_before_are_replaced_and_nothing_else(small_run, tmp_path, capsys):
    for name in "abcd":
        picture().save(tmp_path / f"{name}.png")
    out = tmp_path / "out"

    def draw(*photos):
        words = [str(tmp_path / photo) for photo in photos]
        assert main(["heatmaps", str(small_run), *words, "--out", str(out), "--tile", "40", "--rows", "2"]) == 0
        return {path.name for path in out.iterdir()}, capsys.readouterr().out

    before, said = draw("a.png", "b.png", "c.png", "d.png")
    assert {"sheet-01.png", "sheet-02.png", "004-d.png"} < before
    assert "note:" not in said
    picture().save(out / "mine.png")
    picture().save(out / "007-mine.png")
    (out / "notes.txt").write_text("left alone")
    after, said = draw("b.png", "out/003-c.png")
    own = {"mine.png", "007-mine.png", "notes.txt", "003-c.png"}  # the last one is an input as well
    assert after == {"sheet.png", "001-b.png", "002-003-c.png", "regions.json", *own}
    assert "deleted 5 pictures of the run before it" in said
    assert "holds 1 picture that this run has not made, 007-mine.png" in said
    assert draw("b.png", "out/003-c.png")[0] == after
    (out / "regions.json").write_text('{"sheets": [4, "../a.png"], "photos": [{"picture": null}, 3]}')
    again, said = draw("c.png")
    assert again == {*after, "001-c.png"}
    assert "deleted" not in said
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize("case", ["missing", "empty folder", "broken", "no checkpoint", "byol", "out is a file"])
def test_what_cannot_work_is_one_line_and_status_2(case, small_run, byol_run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("no photo")
    picture().save(tmp_path / "fine.png")
    run, photo, out = small_run, "fine.png", "out"
    match case:
        case "missing":
            photo, expected = "nowhere.jpg", "no such file"
        case "empty folder":
            photo, expected = "empty", "no photos"
        case "broken":
            photo, expected = "text.jpg", "no readable photo among 1"
        case "no checkpoint":
            run, expected = tmp_path / "norun", "no checkpoint at"
        case "byol":
            run, expected = byol_run, "without a region decoder"
        case _:
            out, expected = "fine.png", "cannot make the folder"
    assert main(["heatmaps", str(run), str(tmp_path / photo), "--out", str(tmp_path / out)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("fra-dist heatmaps: ")
    assert expected in last


@pytest.mark.parametrize("words", [["--limit", "0"], ["--tile", "5"], ["--rows", "x"]])
def test_options_out_of_range_are_refused(words, small_run, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["heatmaps", str(small_run), "x.jpg", *words])
    assert stop.value.code == 2
