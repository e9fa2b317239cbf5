from pathlib import Path

from fra_dist.config import parse_config
from fra_dist.launch.trainer_command import absolute


def test_places_are_absolute_and_urls_stay():
    sets = [{"data": "faces/test", "name": "a"}, {"data": "s3://bucket/faces", "name": "b"}, {"data": "/faces"}]
    config = parse_config({"output": "runs/x", "data": {"shards": "shards"}, "probe": {"sets": sets}})
    found = absolute(config)
    here = Path.cwd()
    assert (found.output, found.data.shards) == (str(here / "runs/x"), str(here / "shards"))
    assert [one.data for one in found.probe.sets] == [str(here / "faces/test"), "s3://bucket/faces", "/faces"]
    assert absolute(found) == found
    assert absolute(parse_config({})).data.shards == "", "none was given"


def test_photos_and_initial_weights_are_absolute_but_for_weights_of_the_package():
    here = Path.cwd()
    config = parse_config({"data": {"photos": "photos"}, "model": {"init": "weights/r18.pth"}})
    assert absolute(config).data.photos == str(here / "photos")
    assert absolute(config).model.init == str(here / "weights/r18.pth")
    named = parse_config({"model": {"init": "small-synthetic"}})
    assert absolute(named).model.init == "small-synthetic"
    assert absolute(parse_config({})).model.init == absolute(parse_config({})).data.photos == ""
