"""Every `fra-dist shards` command of docs/data.md runs, on miniatures of the face sets in their own layouts."""

import re
import shlex
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fra_dist.cli.main import main
from fra_dist.data.shards.manifest import load_manifest
from fra_dist.synthetic import render
from tests.helpers.recordio_files import face_set

PAGE = Path(__file__).parents[3] / "docs/data.md"
COMMANDS = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("fra-dist shards ")]
SIDE, LEFT, TOP = 192, 40, 20
FACES = render(np.arange(12), SIDE)


def picture(number: int) -> Image.Image:
    """A face somewhere on a wall."""
    image = Image.new("RGB", (280, 250), (120, 130 + 5 * number, 110))
    image.paste(Image.fromarray(FACES.images[number]), (LEFT, TOP))
    return image


def five(number: int) -> list[int]:
    marks = FACES.landmarks[number] + (LEFT, TOP)
    points = [marks[36:42].mean(0), marks[42:48].mean(0), marks[30], marks[48], marks[54]]
    return [round(float(value)) for point in points for value in point]


def save(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(number).save(path, **({"quality": 90} if path.suffix == ".jpg" else {}))


def vggface2(root: Path) -> None:
    boxes, points = ["NAME_ID,X,Y,W,H"], ["NAME_ID," + ",".join(f"P{n}X,P{n}Y" for n in range(1, 6))]
    for number in range(6):
        name = f"n{number // 2:06d}/{number:04d}_01"
        save(root / "train" / f"{name}.jpg", number)
        boxes.append(f'"{name}",{LEFT + 40},{TOP + 40},110,120')
        points.append(f'"{name}",' + ",".join(map(str, five(number))))
    (root / "bb_landmark").mkdir()
    (root / "bb_landmark" / "loose_bb_train.csv").write_text("\n".join(boxes) + "\n")
    (root / "bb_landmark" / "loose_landmark_train.csv").write_text("\n".join(points) + "\n")


def celeba(root: Path) -> None:
    parts = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
    points, people = ["6", " ".join(f"{part}_{axis}" for part in parts for axis in "xy")], []
    for number in range(6):
        name = f"{number + 1:06d}.jpg"
        for folder in ("img_celeba", "img_align_celeba"):
            save(root / folder / name, number)
        points.append(f"{name} " + " ".join(f"{value:4}" for value in five(number)))
        people.append(f"{name} {2880 + number // 2}")
    (root / "list_landmarks_celeba.txt").write_text("\n".join(points) + "\n")
    (root / "identity_CelebA.txt").write_text("\n".join(people) + "\n")


def tar(path: Path, photos: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        file.add(photos, ".")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    for number in range(8):
        save(root / f"photos/n{number}/{number}.jpg", number)
        save(root / f"ms1m-folders/{number // 4:07d}/{number}.jpg", number)
        save(root / f"ffhq/images1024x1024/00000/{number:05d}.png", number)
    save(root / "lfw/A_Person/A_Person_0001.jpg", 7)
    boxes = "".join(f"n{n}/{n}.jpg,{LEFT + 40},{TOP + 40},110,120\n" for n in range(8))
    (root / "boxes.csv").write_text(f"name,x,y,w,h\n{boxes}")
    (root / "test_people.txt").write_text("2881\nn3\n")
    vggface2(root / "VGGFace2")
    celeba(root / "CelebA")
    for name in ("photos.tar", "laion-face/00000.tar", "tars/a.tar"):
        tar(root / name, root / "photos")
    jpegs = [path.read_bytes() for path in sorted((root / "photos").rglob("*.jpg"))]
    (root / "ms1m").mkdir()
    (root / "ms1m/train.rec").write_bytes(face_set((n // 4, jpeg) for n, jpeg in enumerate(jpegs)))
    return root


def expected(out: str) -> int:
    """Samples that the miniatures give."""
    few = {"vggface2": 6, "vggface2-aligned": 6, "celeba": 6, "celeba-aligned": 6, "celeba-train": 4, "clean": 6}
    return few.get(out, 8)


def test_every_command_of_the_page_runs(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the page; a folder of tars is given an extension that it has."""
    monkeypatch.chdir(place)
    assert len(COMMANDS) > 20
    for command in COMMANDS:
        words = shlex.split(command.replace("synthetic:2000@112/400", "synthetic:8@64/2"))[1:]
        words = [word.replace("left.jpg", "jpg") for word in words]
        assert main(words) == 0, (command, capsys.readouterr().err)
        if words[1] == "make":
            out = re.sub(r"^shards/", "", words[words.index("--out") + 1])
            assert load_manifest(place / "shards" / out).total == expected(out), command
            assert (place / "shards" / out / "report.html").stat().st_size > 10_000
    assert (place / "sheet.png").exists()
