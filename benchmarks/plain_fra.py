"""FRA (arXiv 2403.02138) written plainly: what the step is compared with, in time and in numbers.

Formula after formula in NCHW, view after view, heads as 1×1 convolutions, Sinkhorn on the whole matrix, LARS and EMA
tensor by tensor. It shares no code with `fra_dist` but the settings. Names of the state are the published
implementation's, so that `fra_dist.layouts.published_names` gives one set of weights to everybody who is compared.

B images, C backbone channels, P pixels of the map, Q regions, D width, K hidden.
"""

import copy
import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from fra_dist.config import Config, DecoderConfig, LossConfig, ModelConfig


class View(NamedTuple):
    whole: Tensor
    """(B, D)"""
    regions: Tensor
    """(B, D, Q)"""
    similarity: Tensor
    """(B, Q, P)"""


class Head(nn.Module):
    """(B, inputs, P) -> (B, outputs, P)."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        first, last = (nn.Conv1d(a, b, 1, bias=False) for a, b in ((inputs, hidden), (hidden, outputs)))
        self.mlp = nn.Sequential(first, nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), last)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


class Layer(nn.Module):
    """Post-norm decoder layer; positions go to queries and keys, not to values."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, feedforward), nn.Linear(feedforward, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, target: Tensor, memory: Tensor, queries: Tensor, code: Tensor) -> Tensor:
        asked = target + queries
        target = self.norm1(target + self.dropout(self.self_attn(asked, asked, target, need_weights=False)[0]))
        found = self.multihead_attn(target + queries, memory + code.to(memory.dtype), memory, need_weights=False)[0]
        target = self.norm2(target + self.dropout(found))
        hidden = self.dropout(self.linear1(target).relu())
        return self.norm3(target + self.dropout(self.linear2(hidden)))


class Decoder(nn.Module):
    """(B, C, H, W) -> mask embeddings (B, Q, D)."""

    def __init__(self, channels: int, width: int, regions: int, config: DecoderConfig) -> None:
        super().__init__()
        self.input_proj = nn.Conv2d(channels, width, 1)
        self.query_embed = nn.Embedding(regions, width)
        layers = [Layer(width, config.heads, config.feedforward, config.dropout) for _ in range(config.layers)]
        stack = nn.ModuleDict({"layers": nn.ModuleList(layers), "norm": nn.LayerNorm(width)})
        self.transformer = nn.ModuleDict({"decoder": stack})
        self.mask_embed = nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(width, width) for _ in range(3))})

    def forward(self, features: Tensor) -> Tensor:
        memory = self.input_proj(features)
        code = sine_code(memory.shape[2], memory.shape[3], memory.shape[1], memory.device).flatten(1).T
        memory = memory.flatten(2).transpose(1, 2)
        queries = self.query_embed.weight.expand(len(memory), -1, -1)
        x = torch.zeros_like(queries)
        stack = self.transformer["decoder"]
        for layer in stack["layers"]:  # type: ignore[index,union-attr]
            x = layer(x, memory, queries, code)
        x = stack["norm"](x)  # type: ignore[index,operator]
        layers = list(self.mask_embed["layers"])  # type: ignore[call-overload]
        return layers[2](layers[1](layers[0](x).relu()).relu())


def sine_code(height: int, width: int, size: int, device: torch.device) -> Tensor:
    """(size, H, W): half of the channels for the row, half for the column, sine and cosine in turn."""
    y = torch.ones(height, width, device=device).cumsum(0)
    x = torch.ones(height, width, device=device).cumsum(1)
    y, x = (place / (place[-1:, -1:] + 1e-6) * 2 * math.pi for place in (y, x))
    channel = torch.arange(size // 2, device=device, dtype=torch.float32)
    wave = 10000 ** (2 * (channel // 2) / (size // 2))
    parts = [place[None] / wave[:, None, None] for place in (y, x)]
    return torch.cat([torch.stack([p[0::2].sin(), p[1::2].cos()], dim=1).flatten(0, 1) for p in parts])


class Neck(nn.Module):
    proto: Tensor

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__()
        assert config.decoder is not None
        self.temperature, self.momentum = config.heatmap_temperature, config.prototype_momentum
        self.proj, self.proj_pixel, self.proj_obj = (Head(channels, config.hidden, config.width) for _ in range(3))
        self.proj_attn = Decoder(channels, config.width, config.regions, config.decoder)
        self.register_buffer("proto", torch.randn(config.regions, config.width))

    def forward(self, features: Tensor) -> View:
        maps = features.flatten(2)
        whole = self.proj(maps.mean(dim=2, keepdim=True)).squeeze(2)
        centres = self.proj_attn(features).mean(dim=0)
        self.proto.mul_(self.momentum).add_(centres.detach(), alpha=1 - self.momentum)
        pixels = functional.normalize(wide(self.proj_pixel(maps)), dim=1)
        with torch.autocast(maps.device.type, enabled=False):
            unit = functional.normalize(wide(centres), dim=1).expand(len(pixels), -1, -1)
            similarity = unit @ pixels
        heat = (similarity / self.temperature).softmax(dim=1) + 1e-7
        pooled = maps @ heat.to(maps.dtype).transpose(1, 2) / heat.sum(dim=2)[:, None]
        return View(whole, self.proj_obj(pooled), similarity)


class Network(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.backbone = getattr(torchvision.models, config.backbone)(weights=None)
        channels = self.backbone.fc.in_features
        self.backbone.avgpool, self.backbone.fc = nn.Identity(), nn.Identity()
        self.neck = Neck(channels, config)

    def forward(self, images: Tensor) -> View:
        net = self.backbone
        x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        return self.neck(net.layer4(net.layer3(net.layer2(net.layer1(x)))))


class PlainFRA(nn.Module):
    """Both networks, the predictors and the loss: `forward` gives the total."""

    center: Tensor

    def __init__(self, model: ModelConfig, loss: LossConfig) -> None:
        super().__init__()
        self.loss = loss
        self.online_net = Network(model)
        self.predictor, self.predictor_obj = (Head(model.width, model.hidden, model.width) for _ in range(2))
        self.target_net = copy.deepcopy(self.online_net).requires_grad_(False)
        self.register_buffer("center", torch.zeros(1, model.regions))

    def forward(self, view1: Tensor, view2: Tensor) -> Tensor:
        online = self.online_net(view1), self.online_net(view2)
        with torch.no_grad():
            target = self.target_net(view1), self.target_net(view2)
        seen = [self.predictor(view.whole[:, :, None]).squeeze(2) for view in online]
        parts = [self.predictor_obj(view.regions) for view in online]
        with torch.autocast(view1.device.type, enabled=False):
            whole = apart(seen[0], target[1].whole) + apart(seen[1], target[0].whole)
            local = self.local(parts[0], target[1].regions) + self.local(parts[1], target[0].regions)
            pairs = zip(online, target, strict=True)
            relation = sum(self.relation(o.similarity, t.similarity) for o, t in pairs) / 2
            return self.loss.global_ * whole + self.loss.local * local + self.loss.relation * relation

    def local(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(B, D, Q) twice: regions agree across views, and differ from the other regions."""
        one, other = functional.normalize(wide(prediction), dim=1), functional.normalize(wide(target), dim=1)
        square = (one.transpose(1, 2) @ other) ** 2
        others = square.masked_fill(torch.eye(square.shape[1], dtype=torch.bool, device=square.device), 0)
        return apart(prediction, target) + self.loss.decorrelation * others.sum(dim=2).mean() / square.shape[1]

    def relation(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(B, Q, P) twice: cross-entropy with balanced assignments, and the lack of entropy of the mean one."""
        wanted = sinkhorn((teacher / self.loss.teacher_temperature).softmax(dim=1), self.loss.sinkhorn_rounds)
        logits = (student / self.loss.student_temperature).log_softmax(dim=1)
        mean = logits.exp().mean(dim=(0, 2))
        return -(wanted * logits).sum(dim=1).mean() + math.log(len(mean)) + (mean * mean.log()).sum()


def apart(prediction: Tensor, target: Tensor) -> Tensor:
    """2 − 2 cos along dimension 1, mean over the rest."""
    return 2 - 2 * functional.cosine_similarity(wide(prediction), wide(target), dim=1).mean()


def wide(x: Tensor) -> Tensor:
    """In fp32 or better."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@torch.no_grad()
def sinkhorn(share: Tensor, rounds: int) -> Tensor:
    """(B, Q, P): each region gets as much of all pixels as any other, each pixel sums to 1."""
    images, regions, pixels = share.shape
    plan = share.transpose(0, 1).flatten(1)
    plan = plan / plan.sum()
    for _ in range(rounds):
        plan = plan / plan.sum(dim=1, keepdim=True) / regions
        plan = plan / plan.sum(dim=0, keepdim=True) / plan.shape[1]
    return (plan * plan.shape[1]).view(regions, images, pixels).transpose(0, 1)


class PlainStep:
    """A training step: `step(view1, view2, lr, momentum of the target) -> total loss`.

    compiled: forward and loss by `torch.compile`. bf16: under autocast, weights fp32.
    """

    def __init__(
        self,
        config: Config,
        state: Mapping[str, Tensor],
        device: torch.device,
        *,
        layout: torch.memory_format = torch.contiguous_format,
        bf16: bool = False,
        compiled: bool = False,
    ) -> None:
        self.config, self.layout, self.bf16 = config, layout, bf16
        self.model = PlainFRA(config.model, config.loss).to(dtype=next(iter(state.values())).dtype)
        self.model.load_state_dict(state)
        self.model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        self.forward = torch.compile(self.model, dynamic=False) if compiled else self.model
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.velocities = [torch.zeros_like(p) for p in self.trained]

    def __call__(self, view1: Tensor, view2: Tensor, lr: float, momentum: float) -> Tensor:
        one, two = (view.contiguous(memory_format=self.layout) for view in (view1, view2))
        with torch.autocast(view1.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.forward(one, two)
        loss.backward()
        self.lars(lr)
        for p in self.trained:
            p.grad = None
        self.follow(momentum)
        return loss.detach()

    @torch.no_grad()
    def lars(self, lr: float) -> None:
        """Biases and norms take neither decay nor adaptation."""
        optim = self.config.optim
        for p, v in zip(self.trained, self.velocities, strict=True):
            assert p.grad is not None
            change = p.grad
            if p.dim() > 1:
                p_norm, g_norm = p.norm().item(), change.norm().item()
                ratio = optim.trust * p_norm / (g_norm + optim.weight_decay * p_norm + 1e-8) if p_norm > 0 else 1.0
                change = (change + optim.weight_decay * p) * ratio
            v.mul_(optim.momentum).add_(change, alpha=lr)
            p.sub_(v)

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """The target goes after the online network."""
        for xi, p in zip(self.model.target_net.parameters(), self.model.online_net.parameters(), strict=True):
            xi.mul_(momentum).add_(p, alpha=1 - momentum)
