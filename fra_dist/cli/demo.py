"""`fra-dist demo`: synthetic faces to a report page, through every part, on this machine.

Renders labelled faces, writes shards, pre-trains FRA with correspondence and clusters, the published form of FRA and
plain BYOL for the same number of steps, scores them with an untrained network and with what needs no network, and
draws one page.
"""

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fra_dist.files import exists

if TYPE_CHECKING:
    from fra_dist.config import Config

TRAIN, TEST = "synthetic:2400@72/600:face", "synthetic:600@72/120:face"
QUICK_TRAIN, QUICK_TEST = "synthetic:96@48/24:face", "synthetic:64@48/12:face"
FRA_FORM, PUBLISHED, BYOL = "FRA with correspondence", "FRA, published form", "BYOL"
_WITHOUT_THE_TERM = ["model.prototypes=decoder", "loss.correspondence=0", "loss.exchange=false"]
_OF_PUBLISHED = [*_WITHOUT_THE_TERM, "model.decoder.centre_queries=false", "model.decoder.query_offset=false"]
_OF_BYOL = [*_WITHOUT_THE_TERM, "model.decoder=null", "loss.local=0", "loss.relation=0"]
_QUICK = ["data.image_size=32", "train.global_batch=16", "train.steps=6", "optim.warmup_steps=1", "log.every_steps=1"]
_QUICK += ["checkpoint.every_steps=3", "log.heatmaps_every=3", "log.heatmap_images=3"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `fra-dist demo` to its argparse parser."""
    parser.add_argument("--out", default="runs/demo", help="folder of everything it makes (default: %(default)s)")
    parser.add_argument(
        "--config", default="demo", metavar="CONFIG", help="of the FRA run (default: the shipped %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="a few steps on a few faces: does every part work?")


def run(args: argparse.Namespace) -> int:
    """Goes on where an earlier demo in the same folder stopped."""
    out, began = Path(args.out), time.monotonic()
    configs = demo_configs(args.config, out, args.quick)
    _say(began, "rendering faces and writing shards")
    _shards(QUICK_TRAIN if args.quick else TRAIN, out / "shards" / "train", seed=0)
    _shards(QUICK_TEST if args.quick else TEST, out / "shards" / "test", seed=1)
    import torch  # takes seconds: after what refuses the folder

    from fra_dist.demo.demo_report import draw_report, measure_runs
    from fra_dist.demo.demo_runs import train_all
    from fra_dist.eval.datasets import open_set
    from fra_dist.eval.features.feature_cache import Cache
    from fra_dist.eval.quick_look import prepare_to_look
    from fra_dist.eval.score_table import as_text, read_table, region_table

    together = 1 if torch.cuda.is_available() else len(configs)
    _say(began, f"pre-training {len(configs)} networks, {configs[FRA_FORM].train.steps} steps each")
    train_all(configs, together)
    _say(began, "measuring them on pictures that no run has seen")
    cache, size = Cache(None), configs[FRA_FORM].data.image_size
    prepared = prepare_to_look(open_set("shards", out / "shards" / "test"), size, 0, cache)
    looks = measure_runs(configs, prepared, cache)
    (out / "scores.json").write_text(json.dumps([look.to_json() for look in looks], indent=1, allow_nan=False))
    _say(began, "drawing the report")
    page = draw_report(configs, looks, prepared, out, time.monotonic() - began)
    print()
    for table in (region_table(looks), read_table(looks)):
        print(as_text(table), end="\n\n")
    _say(began, "done")
    print(f"report: {page.resolve()}")
    return 0


def demo_configs(path: str, out: Path, quick: bool = False) -> dict[str, "Config"]:
    """The three runs by name; they differ only in their form of the method."""
    common = [f"data.shards={out / 'shards' / 'train'}", *(_QUICK if quick else [])]
    forms = {FRA_FORM: ("fra", []), PUBLISHED: ("published", _OF_PUBLISHED), BYOL: ("byol", _OF_BYOL)}
    from fra_dist.config import load_config

    return {
        name: load_config(path, [*common, f"name={short}", f"output={out / short}", *changes])
        for name, (short, changes) in forms.items()
    }


def _shards(source: str, folder: Path, seed: int) -> None:
    from fra_dist.data.making.shard_making import ShardOptions, make_shards
    from fra_dist.data.shards.manifest import load_manifest

    if exists(folder / "manifest.json"):
        load_manifest(folder)
        return
    make_shards(source, folder, ShardOptions(shard_samples=400, seed=seed))


def _say(began: float, text: str) -> None:
    print(f"[{time.monotonic() - began:5.0f} s] {text}", flush=True)
