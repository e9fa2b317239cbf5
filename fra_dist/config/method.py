"""The networks and the loss; the formulas are in `models/` and `losses/`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fra_dist.config.section import Count, Layers, NonNegative, Place, Positive, Section, Share, Width


class DecoderConfig(Section):
    """The transformer that turns feature maps into region queries."""

    layers: Layers = 2
    """Number of transformer layers of the region decoder."""
    heads: Width = 8
    """Number of attention heads in each layer of the region decoder; model.width must be a multiple of it."""
    feedforward: Width = 256
    """Hidden width, in units, of the feed-forward block in each layer of the region decoder."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Probability that a unit is dropped in the layers of the region decoder while training."""
    centre_queries: bool = False
    """Subtract the mean over queries from the mask embeddings, which breaks the symmetric start in which all regions
    are alike."""
    query_offset: bool = False
    """Add a learnable offset to each mask embedding; the offsets are orthogonal at the start."""


class ReviveConfig(Section):
    """Queries of regions that hold next to no pixels start again beside the query of the largest region."""

    share: Share = 0.01
    """A region that holds less than this share of all pixels counts as dead."""
    steps: Count = 100
    """Number of steps in a row that a region must be dead before its query starts again beside that of the largest
    region."""
    noise: NonNegative = 0.3
    """Standard deviation of the noise added to the restarted query, in units of the standard deviation of all queries'
    entries."""


class ModelConfig(Section):
    """Architecture and size of the networks."""

    backbone: str = "resnet50"
    """Architecture: `tiny` (stride 8), `fpn_tiny` or `fpn_small` (stride 4), for CPUs; a torchvision ResNet (resnet18,
    resnet34, resnet50, resnet101, wide_resnet50_2); or `timm:NAME`, for example timm:convnext_tiny or
    timm:vit_small_patch16_224 (`pip install 'fra-dist[timm]'`)."""
    init: Place = ""
    """Weights to start from at step 0; empty: random ones. A file of a ResNet in the layout of torchvision, timm, MoCo,
    SwAV, DINO, solo-learn, Lightly, VISSL or unsupervised-face-representation, a published FRA checkpoint, an export or
    a run of this package; with a backbone of timm, weights of that model; or `small-synthetic`, which the package
    holds. What matched is printed."""
    init_sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    """SHA-256 of the weights of `init`, in hexadecimal digits; filled in when a run starts, so that it resumes without
    the file. Given: other weights are refused."""
    map_stride: Literal[4, 8, 16, 32] = 32
    """Pixels of the image to a cell of the feature map, along each side, for ResNets. 32 is the published network;
    below it a top-down path of 256 channels leads to a finer map, which regions that are parts of a face need."""
    regions: Annotated[int, Field(ge=2, le=64)] = 8
    """Q: number of facial regions, each with a query and a heatmap of its own."""
    width: Width = 256
    """D: number of units of the projections, the predictions and the region decoder."""
    hidden: Width = 4096
    """K: hidden width, in units, of every projector and predictor."""
    decoder: DecoderConfig | None = DecoderConfig()
    """The region decoder; null: no local half, and then loss.local and loss.relation must be 0 (plain BYOL)."""
    heatmap_temperature: Positive = 1.0
    """Similarities are divided by this before the softmax that makes heatmaps; smaller gives sharper maps. With
    heatmap_temperature_end: its value at the first step."""
    heatmap_temperature_end: Positive | None = None
    """Heatmap temperature at the last step, reached along half a cosine and used at inference; null: it stays as it
    is."""
    prototype_momentum: Share = 0.9
    """Share of the old value that running prototypes keep, 0 to 1: the averages over batches that inference uses,
    moved at each forward pass, or with clusters the prototypes themselves, moved once a step."""
    prototypes: Literal["decoder", "clusters"] = "decoder"
    """Where prototypes come from: decoder, the batch mean of the mask embeddings that the region decoder makes;
    clusters, centres of the pixel projections that follow balanced assignments, without gradient and without a region
    decoder (the settings of `decoder` then have no effect)."""
    cluster_temperature: Positive = 0.04
    """With clusters: what cosines of pixels with prototypes are divided by before they are balanced; above 0."""
    cluster_rounds: Annotated[int, Field(ge=0, le=1000)] = 3
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
    """What makes the queries of regions that hold next to no pixels start again; null: such regions stay as they
    are."""

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
        if self.init_sha256 and not self.init:
            raise ValueError("model.init_sha256 is of the weights that model.init names: give that as well")
        for name in ("detach_pooling", "detach_relation"):
            if self.decoder is None and getattr(self, name):
                raise ValueError(f"model.{name} is about regions, but model.decoder is null: set it to false")
        return self

    @property
    def has_pixel_head(self) -> bool:
        """Whether the networks have the head that projects each pixel of the map, with or without a region decoder."""
        return self.decoder is not None or self.pixel_head


class LossConfig(Section):
    """The terms of the loss and their weights."""

    global_: NonNegative = Field(default=0.5, alias="global")
    """Weight of the global term: agreement of the embeddings of whole views."""
    local: NonNegative = 0.5
    """Weight of the local term: agreement of the embeddings of regions."""
    decorrelation: NonNegative = 0.02
    """Weight of the decorrelation of regions, inside the local term."""
    relation: NonNegative = 0.1
    """Weight of the semantic relation term, which makes pixels choose regions."""
    student_temperature: Positive = 0.1
    """Temperature of the online network's softmax over regions in the relation term; smaller is sharper."""
    teacher_temperature: Positive = 0.04
    """Temperature of the target network's softmax over regions in the relation term; smaller is sharper."""
    sinkhorn_rounds: Annotated[int, Field(ge=0, le=1000)] = 3
    """Number of Sinkhorn rounds that balance the target network's assignment of pixels to regions; 0: it is not
    balanced."""
    match: Literal["all", "present"] = "all"
    """Which regions are compared across views: all of them, or only those present in both views."""
    match_share: Share = 0.01
    """With match=present: the share of a view's pixels that a region must hold to count as present."""
    relation_match: Literal["same_view", "geometry"] = "same_view"
    """Whose assignment a view's pixels follow: the target network's of the same view (same_view), or of the other view
    where the two show the same place (geometry)."""
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
    exchange_group: Annotated[int, Field(ge=2, le=2**20)] | None = None
    """Photos of the global batch, in its order, inside which partners are found: a photo and the one half a group
    further on. Must divide what a forward pass of all ranks sees into groups of which every rank has an even number of
    photos; null: the global batch."""
    extra: dict[str, NonNegative] = Field(default_factory=dict)
    """Weights of loss terms from outside the package, by name: an entry point of the group `fra_dist.loss_terms`, or
    `module:function`. Training imports what is named here; nothing else does."""

    @model_validator(mode="after")
    def _exchanged(self) -> Self:
        if self.exchange and not self.correspondence:
            raise ValueError("loss.exchange is about the correspondence term: set loss.correspondence above 0")
        return self

    @property
    def needs_places(self) -> bool:
        """Whether a term asks where the two views lie in their photos."""
        return self.correspondence > 0 or self.relation_match == "geometry" or bool(self.extra)
