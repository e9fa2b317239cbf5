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
