"""Lines of Python that load an export and try it, for its model card. A test runs those of every format."""

from fra_dist.config import Config
from fra_dist.models.backbone import RESNETS

_OUTPUTS = "embedding, features, regions, heatmaps"


def loading_lines(form: str, name: str, config: Config) -> list[str]:
    """Lines that run in the folder of the export `name`, which has the format `form`."""
    side = config.data.image_size
    images = f"images = torch.rand(2, 3, {side}, {side})  # RGB in [0, 1], the face cut out and scaled"
    outputs = _OUTPUTS if config.model.decoder is not None else "embedding, features"
    if form in ("network", "huggingface"):
        where = "folder" if form == "huggingface" else "file"
        call = f'FaceModel.from_pretrained("{name}")' if form == "huggingface" else f'load("{name}")'
        lines = ["import fra_dist", "import torch", "", f"model = fra_dist.{call}  # the {where}, or a copy of it"]
        return [*lines, images, "found = model(images)  # or paths, PIL images, arrays", "print(found.embedding.shape)"]
    if form == "onnx":
        lines = ["import onnxruntime", "import torch", "", f'session = onnxruntime.InferenceSession("{name}")', images]
        return [*lines, f'{outputs} = session.run(None, {{"images": images.numpy()}})', "print(embedding.shape)"]
    if form == "torch-export":
        lines = ["import torch", "", f'model = torch.export.load("{name}").module()', images]
        return [*lines, f"{outputs} = model(images)", "print(embedding.shape)"]
    if form == "timm":
        lines = ["import timm", "import torch", "", f'net = timm.create_model("local-dir:{name}", pretrained=True)']
        return [*lines, "net.eval()", images, *_features(config, "net(", ")")]
    if form == "published":
        load = f'torch.load("{name}", weights_only=True)'
        return [
            "import torch",
            "",
            f"state = {load}",
            'print(len(state), "tensors, such as", next(iter(state)))',
        ]
    return _backbone(name, config, images)


def _backbone(name: str, config: Config, images: str) -> list[str]:
    safe, stride = name.endswith(".safetensors"), config.model.map_stride
    resnet = config.model.backbone in RESNETS and not (safe and stride < 32)
    lines = ["import torch", "import torchvision"] if resnet else ["import torch"]
    lines += ["from safetensors.torch import load_file"] if safe else []
    read = f'load_file("{name}")' if safe else f'torch.load("{name}", weights_only=True)'
    if resnet:
        lines += ["", f"net = torchvision.models.{config.model.backbone}()", "net.fc = torch.nn.Identity()"]
    else:
        finer = f", map_stride={stride}" if stride < 32 else ""
        lines += ["from fra_dist.models.backbone import build_backbone", ""]
        lines += [f'net = build_backbone("{config.model.backbone}"{finer})']
    lines += [f"net.load_state_dict({read})", "net.eval()", "", images]
    return [*lines, *_features(config, "net(", ")" if resnet else ").mean((2, 3))")]


def _features(config: Config, before: str, after: str) -> list[str]:
    mean, std = (f"torch.tensor({list(values)}).view(1, 3, 1, 1)" for values in (config.data.mean, config.data.std))
    call = f"    features = {before}(images - {mean}) / {std}{after}"
    return ["with torch.inference_mode():", call, "print(features.shape)"]
