"""`fra-dist export CHECKPOINT --format FORMAT`: a network, or its backbone, for other code, with its model card.

Each export is loaded back by the library it is for, and compared, before it takes its name. `--format network` (the
default) works for every model.
"""

import argparse
from pathlib import Path

from fra_dist.errors import ConfigError
from fra_dist.files import exists

FORMATS = ("network", "huggingface", "onnx", "torch-export", "torchvision", "timm", "safetensors", "published")
_ABOUT = """formats
  network       the whole network in one .safetensors, for fra_dist.load
  huggingface   the same as a folder with a model card, for FaceModel.from_pretrained
  onnx          the whole network for onnxruntime: embedding, features, regions, heatmaps; any batch
  torch-export  the same as a program of torch.export (.pt2)
  torchvision   the backbone of a ResNet (.pth), loaded with strict=True
  timm          the backbone as a folder, for timm.create_model("local-dir:DIR", pretrained=True)
  safetensors   the backbone in one file
  published     both networks under the names of the published code"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist export` to its parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = __doc__, _ABOUT
    parser.add_argument(
        "checkpoint", help="run folder, a step-N folder of its checkpoints, an exported network, or small-synthetic"
    )
    parser.add_argument("--format", choices=FORMATS, default="network", help="see below (%(default)s)")
    parser.add_argument("--out", help="file or folder, also a new one; default: backbone, network and step")
    parser.add_argument("--network", choices=("online", "target"), default="online", help="default: online")
    parser.add_argument("--overwrite", "--force", action="store_true", help="replace what is there")
    card = parser.add_argument_group("model card, OUT.md or OUT/README.md")
    card.add_argument("--scores", metavar="DIR", help="results of `fra-dist eval` for this network")
    card.add_argument("--data", metavar="TEXT", default="", help="where the photos came from")
    card.add_argument("--terms", metavar="TEXT", default="", help="what may be done with the weights")


def run(args: argparse.Namespace) -> int:
    """Write a network and its model card.

    Raises CheckpointError, ConfigError or DataError when that cannot be done.
    """
    from fra_dist.layouts.shipped_weights import shipped_weights
    from fra_dist.train.checkpoints.reading import find_checkpoint

    if not exists(Path(args.checkpoint)) and args.checkpoint not in shipped_weights():
        find_checkpoint(args.checkpoint)  # what is none is refused before torch is imported
    from fra_dist.export.formats import export_model
    from fra_dist.export.inference import exported_before
    from fra_dist.export.loading_lines import loading_lines
    from fra_dist.export.model_card import CardText, ExportedBefore, read_results, write_card
    from fra_dist.formats import size_text

    checkpoint = None if exported_before(args.checkpoint) else find_checkpoint(args.checkpoint)
    if checkpoint is None and args.scores is not None:
        raise ConfigError(f"--scores needs the run, whose results it checks: {args.checkpoint} was exported before")
    results = [] if args.scores is None or checkpoint is None else read_results(args.scores, checkpoint, args.network)
    made = export_model(args.checkpoint, args.format, args.out, args.network, args.overwrite)
    config, text = made.exported.config, CardText(args.data, args.terms)
    origin = checkpoint or ExportedBefore(args.checkpoint, config)
    card = write_card(made.path, origin, args.network, results, text, args.format, made.numbers)
    print(f"wrote {made.path}, {size_text(made.bytes)}, and its card {card}")
    print(f"loaded back: largest relative difference {made.difference:.1e}")
    print(
        f"images: {config.data.image_size} px in training, mean {list(config.data.mean)}, std {list(config.data.std)}"
    )
    if made.lost:
        print(f"note: {made.lost}")
    print("load:   " + "\n        ".join(line for line in loading_lines(args.format, str(made.path), config) if line))
    return 0
