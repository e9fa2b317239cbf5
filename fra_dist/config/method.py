"""The networks and the loss; the formulas are in `models/` and `losses/`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fra_dist.config.section import Count, NonNegative, Positive, Section, Share, Whole


class DecoderConfig(Section):
    layers: Count = 2
    heads: Count = 8
    feedforward: Count = 256
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
    width: Count = 256
    """D: of the projections, the predictions and the decoder."""
    hidden: Count = 4096
    """K: hidden width of every projector and predictor."""
    decoder: DecoderConfig | None = DecoderConfig()
    """None: no local half; then loss.local and loss.relation must be 0 (plain BYOL)."""
    heatmap_temperature: Positive = 1.0
    heatmap_temperature_end: Positive | None = None
    """Reached at the last step by a half cosine, and used at inference; null: the temperature stays as it is."""
    prototype_momentum: Share = 0.9
    """Share of the running prototypes that a new one leaves as it is, 0 to 1: of the means over batches that inference
    uses or, with clusters, of the prototypes themselves, once a step."""
    prototypes: Literal["decoder", "clusters"] = "decoder"
    """Where prototypes come from: decoder, the batch mean of the mask embeddings that the region decoder makes;
    clusters, centres of the pixel projections that follow balanced assignments, without gradient and without a region
    decoder (the settings of `decoder` then have no effect)."""
    cluster_temperature: Positive = 0.04
    """With clusters: what cosines of pixels with prototypes are divided by before they are balanced; above 0."""
    cluster_rounds: Whole = 3
    """With clusters: rounds of balancing (Sinkhorn); 0: pixels go where they are nearest to."""
    cluster_centred: bool = False
    """With clusters: take the mean of all pixels' projections off before they are assigned and averaged, so that the
    prototypes do not share a direction."""
    pixel_head: bool = False
    """A head for pixel projections in a model without `decoder`, which loss.correspondence trains; models with one
    have it in any case."""
    detach_pooling: bool = False
    """Pool region features by heatmaps without gradient: the local loss then teaches similarities nothing."""
    detach_relation: bool = False
    """Give the relation loss similarities whose pixels have no gradient: it then teaches prototypes alone."""
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

    @model_validator(mode="after")
    def _prototypes_fit(self) -> Self:
        if self.decoder is None and self.prototypes == "clusters":
            raise ValueError(
                "model.prototypes=clusters is about regions, but model.decoder is null: set it to decoder as well"
            )
        if self.prototypes == "clusters" and self.revive_dead is not None:
            raise ValueError(
                "model.revive_dead moves queries, which model.prototypes=clusters has none of: set it to null"
            )
        if self.cluster_centred and self.prototypes != "clusters":
            raise ValueError("model.cluster_centred is about clusters: set model.prototypes=clusters")
        for name in ("detach_pooling", "detach_relation"):
            if self.decoder is None and getattr(self, name):
                raise ValueError(f"model.{name} is about regions, but model.decoder is null: set it to false")
        return self

    @property
    def has_pixel_head(self) -> bool:
        """Whether networks make pixel projections."""
        return self.decoder is not None or self.pixel_head


class LossConfig(Section):
    global_: NonNegative = Field(default=0.5, alias="global")
    local: NonNegative = 0.5
    decorrelation: NonNegative = 0.02
    """Weight inside the local term."""
    relation: NonNegative = 0.1
    student_temperature: Positive = 0.1
    teacher_temperature: Positive = 0.04
    sinkhorn_rounds: Whole = 3
    match: Literal["all", "present"] = "all"
    """Regions that are compared across views: all of them, or those that both views hold."""
    match_share: Share = 0.01
    """With present: the part of a view's pixels that a region needs to be held by it."""
    relation_match: Literal["same_view", "geometry"] = "same_view"
    """Whose assignment a view's pixels follow: the target network's of the same view, or of the other view where the
    two show the same place."""
    local_form: Literal["consistency", "contrast"] = "consistency"
    """What the local loss asks of a region's embedding: to agree with that of the same region in the other view, or to
    tell it from that of the same region in all other photos of the batch (InfoNCE)."""
    contrast_temperature: Positive = 0.2
    """With contrast: what cosines are divided by; above 0."""
    local_centred: bool = False
    """Take each region's mean over the photos of the batch off its embeddings before they are compared, so that which
    region it is does not count."""
    correspondence: NonNegative = 0.0
    """Weight of the correspondence term, by which a pixel of one view must find its place in the other; 0: off."""
    correspondence_temperature: Positive = 0.1
    """What cosines of pixels are divided by; above 0."""
    correspondence_spread: Positive = 0.7
    """Standard deviation of the target around a pixel's place in the other view, in cells of the map; above 0."""
    exchange: bool = False
    """Look for a pixel's place by way of the pixels of another photo."""
    exchange_group: Annotated[int, Field(ge=2)] | None = None
    """Photos of the global batch, in its order, inside which partners are found: a photo and the one half a group
    further on. Must divide what a forward pass of all ranks sees into groups of which every rank has an even number of
    photos; null: the global batch."""

    @model_validator(mode="after")
    def _exchanged(self) -> Self:
        if self.exchange and not self.correspondence:
            raise ValueError("loss.exchange is about the correspondence term: set loss.correspondence above 0")
        return self

    @property
    def needs_places(self) -> bool:
        """Whether a term asks where the two views lie in their photos."""
        return self.correspondence > 0 or self.relation_match == "geometry"
