"""The region decoder: learnable queries look at the feature map and become mask embeddings.

B images, C backbone channels, H×W map, Q regions, D width. Layers as in DETR (arXiv 2005.12872): post-norm, the
position code added to the keys alone, the queries' own code added to queries (and to the keys of self-attention).
"""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from fra_dist.config import DecoderConfig
from fra_dist.kernels.decoder_attention import decoder_attention
from fra_dist.kernels.residual_norm import Normed, residual_norm
from fra_dist.kernels.self_attention import reference as plain_attention
from fra_dist.kernels.self_attention import self_attention
from fra_dist.models.dropout import ImageDropout


class RegionDecoder(nn.Module):
    """The region decoder: feature maps (B, C, H, W) -> mask embeddings (B, Q, D).

    `centre_queries` subtracts the mean over queries and `query_offset` then adds a learnable vector to each,
    orthonormal at the start: at initialisation the published form gives every query the same embedding, a saddle.
    `movable`: queries and offsets have buffers of shifts added to them, see `revival.py`.
    """

    query_shift: Tensor | None
    """(Q, D) shifts added to the queries, or None where regions cannot be revived."""
    offset_shift: Tensor | None
    """(Q, D) shifts added to the query offsets, or None where there are no offsets or regions cannot be revived."""

    def __init__(
        self, channels: int, width: int, regions: int, config: DecoderConfig, *, movable: bool = False
    ) -> None:
        super().__init__()
        self.centre_queries = config.centre_queries
        self.input_projection = nn.Linear(channels, width)
        self.queries = nn.Parameter(torch.randn(regions, width))
        self.dropout = ImageDropout(config.dropout, span=config.layers * DecoderLayer.DROPOUTS)
        self.layers = nn.ModuleList(
            DecoderLayer(width, config.heads, config.feedforward, self.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.embed = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.query_offset = nn.Parameter(torch.empty(regions, width)) if config.query_offset else None
        self.register_buffer("query_shift", torch.zeros(regions, width) if movable else None)
        self.register_buffer("offset_shift", torch.zeros(regions, width) if movable and config.query_offset else None)
        self._initialise()

    def _initialise(self) -> None:
        for parameter in self.layers.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        nn.init.kaiming_uniform_(self.input_projection.weight, a=1)
        nn.init.zeros_(self.input_projection.bias)
        if self.query_offset is not None:
            nn.init.orthogonal_(self.query_offset)

    def forward(self, features: Tensor) -> Tensor:
        """The mask embeddings of each image: features (B, C, H, W) -> (B, Q, D)."""
        height, width = features.shape[2:]
        memory = self.input_projection(features.flatten(2).transpose(1, 2))  # (B, H·W, D)
        code = position_code(height, width, memory.shape[2], memory.device, memory.dtype)
        queries = _moved(self.queries, self.query_shift)
        target = queries.new_zeros(len(features), *queries.shape)
        state = Normed(target, target, target + queries)
        for i, layer in enumerate(self.layers, 1):
            state = layer(state, queries, memory, code, last=i == len(self.layers))
        x = self.norm(state.output)
        for i, linear in enumerate(self.embed):
            x = linear(x)
            if i < 2:
                x = functional.relu(x)
        if self.centre_queries:
            x = x - x.mean(dim=1, keepdim=True)
        return x if self.query_offset is None else x + _moved(self.query_offset, self.offset_shift)

    def shifted(self) -> list[tuple[Tensor, Tensor]]:
        """The parameters that belong to single regions, (Q, D) each, with their shifts: the queries,
        and the offsets if any."""
        pairs = ((self.queries, self.query_shift), (self.query_offset, self.offset_shift))
        return [(weight, shift) for weight, shift in pairs if weight is not None and shift is not None]


def _moved(weight: Tensor, shift: Tensor | None) -> Tensor:
    return weight if shift is None else weight + shift


class DecoderLayer(nn.Module):
    """A layer of the decoder: self-attention, cross-attention and feed-forward, each with dropout,
    residual and layer norm."""

    DROPOUTS = 6
    """How many times a pass through the layer calls the dropout."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: ImageDropout) -> None:
        super().__init__()
        self.self_attention = Attention(width, heads, dropout)
        self.cross_attention = CrossAttention(width, heads, dropout)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = dropout

    def forward(self, state: Normed, queries: Tensor, memory: Tensor, code: Tensor, *, last: bool = True) -> Normed:
        """One layer, from the state behind the one before: (B, Q, D), queries (Q, D), memory (B, H·W, D).

        code: the position code of the keys, (H·W, D). last: whether no layer follows that would ask for more than the
        output.
        """
        target, value, asked = state
        assert asked is not None
        found = self.self_attention(asked, asked, value)
        target, _, asked = self._joined(self.norm1, target, found, queries=queries)
        assert asked is not None
        found = self.cross_attention(asked, memory, code)
        target, value, _ = self._joined(self.norm2, target, found, rounded=True)
        found = self.linear2(self.dropout(functional.relu(self.linear1(value))))
        return self._joined(self.norm3, target, found, queries=None if last else queries, rounded=not last)

    def _joined(
        self, norm: nn.LayerNorm, x: Tensor, found: Tensor, queries: Tensor | None = None, rounded: bool = False
    ) -> Normed:
        """norm(x + dropout(found)), and what the next linear layers take of it."""
        dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else None
        share = 0.0 if self.dropout.idle else self.dropout.p
        drawn = self.dropout.drawn() if share else {}
        return residual_norm(
            x, found, norm.weight, norm.bias,
            eps=norm.eps, queries=queries, rounded=rounded, dtype=dtype, dropout=share, **drawn,
        )  # fmt: skip


class Attention(nn.Module):
    """Multi-head attention, batch first; one packed weight for queries, keys and values, dropout on the weights."""

    used_in_parts: tuple[str, ...] = ("in_weight", "in_bias")
    """Parameters for autocast to round, each part of which is used once in a call: see `rounded_weights.weights_of`."""

    def __init__(self, width: int, heads: int, dropout: ImageDropout) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_bias = nn.Parameter(torch.zeros(3 * width))
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of each query over the keys: (B, Q, D), (B, P, D), (B, P, D) -> (B, Q, D)."""
        share = 0.0 if self.dropout.idle else self.dropout.p
        if query is key:
            parts_of = [len(self.in_weight) // 3 * part for part in (2, 1)]  # one product for both
            (weight, w_value), (bias, b_value) = self.in_weight.split(parts_of), self.in_bias.split(parts_of)
            qk, v = functional.linear(query, weight, bias), functional.linear(value, w_value, b_value)
            drawn = self.dropout.drawn() if share else {}
            return self.out(self_attention(qk, v, self.heads, dropout=share, **drawn))
        parts = zip((query, key, value), self.in_weight.chunk(3), self.in_bias.chunk(3), strict=True)
        q, k, v = (functional.linear(*part) for part in parts)
        keep = self._kept(query, key) if share else None
        return self.out(plain_attention(q, k, v, self.heads, share, keep))

    def _kept(self, query: Tensor, key: Tensor) -> Tensor | None:
        """The mask of the attention weights that the next call keeps; None without keys."""
        if self.dropout.keys is None:
            return None
        return self.dropout.kept(torch.Size((len(query), self.heads, query.shape[1], key.shape[1])))


class CrossAttention(Attention):
    """Attention over a map with a position code on its keys alone, computed by `kernels/decoder_attention/`."""

    used_in_parts = ("in_weight",)  # the bias of the values is added in fp32

    def forward(self, query: Tensor, memory: Tensor, code: Tensor) -> Tensor:
        """Attention of each query over the pixels: query (B, Q, D), memory (B, P, D), code (P, D) -> (B, Q, D)."""
        share = 0.0 if self.dropout.idle else self.dropout.p
        keep = self._kept(query, memory) if share else None
        weights = self.in_weight, self.in_bias
        return self.out(decoder_attention(query, memory, code, *weights, self.heads, dropout=share, keep=keep))


@lru_cache(maxsize=16)
def position_code(
    height: int, width: int, size: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Normalised 2-D sine code, (height·width, size): `size`/2 numbers for the row, then as many for the column.

    Computed in fp32, then rounded to `dtype`.

    Row i of n counts as 2π (i + 1)/(n + 1e-6); number j of it is sin (j even) or cos (j odd) of that divided by
    10000^(2⌊j/2⌋/(size/2)).
    """
    half = size // 2
    with torch.inference_mode(False), torch.autocast(device.type, enabled=False):
        index = torch.arange(half, dtype=torch.float32, device=device)
        divisor = 10000 ** (2 * torch.div(index, 2, rounding_mode="floor") / half)
        halves = []
        for length in (height, width):
            place = torch.arange(1, length + 1, dtype=torch.float32, device=device)
            angle = (place / (place[-1] + 1e-6) * (2 * math.pi))[:, None] / divisor
            halves.append(torch.where(index % 2 == 0, angle.sin(), angle.cos()))
        rows = halves[0][:, None].expand(height, width, half)
        columns = halves[1][None].expand(height, width, half)
        return torch.cat([rows, columns], dim=2).flatten(0, 1).to(dtype)
