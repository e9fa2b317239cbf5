"""`fra-dist export CHECKPOINT --format torchvision|safetensors`: write a backbone that other code can load."""

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="run folder, or a step-N folder of its checkpoints")
    parser.add_argument("--format", choices=("torchvision", "safetensors"), default="torchvision")
    parser.add_argument("--out", help="file or folder; default: a name made of architecture, network and step")
    parser.add_argument("--network", choices=("online", "target"), default="online", help="default: online")


def run(args: argparse.Namespace) -> int:
    from fra_dist.export.backbone import export_backbone

    path, config = export_backbone(args.checkpoint, args.format, args.out, args.network)
    print(f"wrote {path}")
    print(
        f"images: {config.data.image_size} px in training, mean {list(config.data.mean)}, std {list(config.data.std)}"
    )
    if args.format == "torchvision":
        print(f"load:   net = torchvision.models.{config.model.backbone}(); net.fc = torch.nn.Identity()")
        print(f"        net.load_state_dict(torch.load({str(path)!r}, weights_only=True), strict=True)")
    return 0
