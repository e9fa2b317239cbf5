"""`fra-dist export CHECKPOINT --format torchvision|safetensors|network`: weights for use elsewhere, and their card."""

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist export` to its parser."""
    parser.add_argument("checkpoint", help="run folder, or a step-N folder of its checkpoints")
    parser.add_argument(
        "--format",
        choices=("torchvision", "safetensors", "network"),
        default="torchvision",
        help="the backbone for torchvision, or with all that it has; or the whole network, with its regions "
        "(default: %(default)s)",
    )
    parser.add_argument("--out", help="file or folder; default: a name made of architecture, network and step")
    parser.add_argument("--network", choices=("online", "target"), default="online", help="default: online")
    card = parser.add_argument_group("model card, OUT.md")
    card.add_argument("--scores", metavar="DIR", help="results of `fra-dist eval` for this network")
    card.add_argument("--data", metavar="TEXT", default="", help="where the photos came from")
    card.add_argument("--terms", metavar="TEXT", default="", help="what may be done with the weights")


def run(args: argparse.Namespace) -> int:
    """Write a backbone or a whole network, and its model card.

    Raises CheckpointError, ConfigError or DataError when that cannot be done.
    """
    from fra_dist.export.backbone_export import export_backbone, left_out
    from fra_dist.export.model_card import CardText, read_results, write_card
    from fra_dist.train.checkpoints.reading import find_checkpoint

    checkpoint = find_checkpoint(args.checkpoint)
    results = [] if args.scores is None else read_results(args.scores, checkpoint, args.network)
    path, config = export_backbone(args.checkpoint, args.format, args.out, args.network)
    card = write_card(path, checkpoint, args.network, results, CardText(args.data, args.terms))
    print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB, and its card {card}")
    print(
        f"images: {config.data.image_size} px in training, mean {list(config.data.mean)}, std {list(config.data.std)}"
    )
    if missing := left_out(config, args.format):
        print(missing)
    if args.format == "network":
        print(f"load:   model = fra_dist.load({str(path)!r})")
    if args.format == "torchvision":
        print(f"load:   net = torchvision.models.{config.model.backbone}(); net.fc = torch.nn.Identity()")
        print(f"        net.load_state_dict(torch.load({str(path)!r}, weights_only=True), strict=True)")
    return 0
