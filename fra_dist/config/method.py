"""The networks and the loss; the formulas are in `models/` and `losses/`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fra_dist.config.section import Count, Layers, NonNegative, Positive, Section, Share, Width


class DecoderConfig(Section):
    layers: Layers = 2
    heads: Width = 8
    feedforward: Width = 256
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    centre_queries: bool = False
    """Subtract the mean over queries from the mask embeddings: breaks the symmetric start."""
    query_offset: bool = False
    """Add a learnable offset to each mask embedding, orthogonal at the start."""


class ReviveConfig(Section):
    """Queries of regions that hold next to nothing start anew beside the query of the largest region."""

    share: Share = 0.01
    """A region with a smaller part of all pixels than this is dead."""
    steps: Count = 100
    """Steps in a row that a region is dead before its query starts anew."""
    noise: NonNegative = 0.3
    """Standard deviation of what is added to the query, in that of the entries of all queries."""


class ModelConfig(Section):
    backbone: str = "resnet50"
    """`tiny`, or a torchvision ResNet: resnet18, resnet34, resnet50, resnet101, wide_resnet50_2; or `timm:NAME`,
    for example timm:convnext_tiny or timm:vit_small_patch16_224 (`pip install 'fra-dist[timm]'`)."""
    regions: Annotated[int, Field(ge=2, le=64)] = 8
    width: Width = 256
    """D: of the projections, the predictions and the decoder."""
    hidden: Width = 4096
    """K: hidden width of every projector and predictor."""
    decoder: DecoderConfig | None = DecoderConfig()
    """None: no local half; then loss.local and loss.relation must be 0 (plain BYOL)."""
    heatmap_temperature: Positive = 1.0
    heatmap_temperature_end: Positive | None = None
    """Reached at the last step by a half cosine, and used at inference; null: the temperature stays as it is."""
    prototype_momentum: Share = 0.9
    revive_dead: ReviveConfig | None = None
    """Null: regions that nothing falls to stay as they are."""

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        heads = 1 if self.decoder is None else self.decoder.heads
        if self.width % heads:
            raise ValueError(f"model.width {self.width} must be a multiple of model.decoder.heads {heads}")
        if self.decoder is not None and self.width % 2:
            raise ValueError(f"model.width {self.width} must be even: half of the position code is for rows")
        for name in ("heatmap_temperature_end", "revive_dead"):
            if self.decoder is None and getattr(self, name) is not None:
                raise ValueError(f"model.{name} is about regions, but model.decoder is null: set it to null as well")
        return self


class LossConfig(Section):
    global_: NonNegative = Field(default=0.5, alias="global")
    local: NonNegative = 0.5
    decorrelation: NonNegative = 0.02
    """Weight inside the local term."""
    relation: NonNegative = 0.1
    student_temperature: Positive = 0.1
    teacher_temperature: Positive = 0.04
    sinkhorn_rounds: Annotated[int, Field(ge=0, le=1000)] = 3
    match: Literal["all", "present"] = "all"
    """Regions that are compared across views: all of them, or those that both views hold."""
    match_share: Share = 0.01
    """With present: the part of a view's pixels that a region needs to be held by it."""
    relation_match: Literal["same_view", "geometry"] = "same_view"
    """Whose assignment a view's pixels follow: the target network's of the same view, or of the other view where the
    two show the same place."""
