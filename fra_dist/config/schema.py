"""Every setting of a run, with the published FRA values as defaults.

Sections are frozen and strict: an unknown key, a wrong type or a value out of range is refused by `load.py`
before anything starts. Sizes are in pixels, times in the unit that the name says.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Triple = tuple[float, float, float]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ViewConfig(Section):
    """How a view is drawn. The defaults are those of view 1."""

    crop_scale: tuple[Share, Share] = (0.2, 1.0)
    crop_ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    flip: Share = 0.5
    jitter: Share = 0.8
    brightness: Share = 0.4
    contrast: Share = 0.4
    saturation: Share = 0.2
    hue: Annotated[float, Field(ge=0.0, le=0.5)] = 0.1
    grey: Share = 0.2
    blur: Share = 1.0
    blur_sigma: tuple[Positive, Positive] = (0.1, 2.0)
    solarise: Share = 0.0
    solarise_threshold: Annotated[int, Field(ge=0, le=256)] = 128

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("crop_scale", "crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is [low, high], but {low} > {high}")
        if self.crop_scale[0] <= 0:
            raise ValueError("crop_scale must begin above 0")
        return self


class DataConfig(Section):
    shards: str = ""
    """Folder that holds `manifest.json` and the tars, or its URL: s3://, gs://, https://, hf://datasets/..."""
    cache: str = ""
    """Folder on a node's own disk for copies of remote shards; empty: $FRA_DIST_CACHE, or ~/.cache/fra_dist/shards."""
    cache_gb: NonNegative = 50
    """GiB that the copies may take; 0: none are kept, every sample is read by a range request."""
    prefetch_shards: Whole | None = None
    """Shards that a rank has copied before it needs them; null: the next one of each stream it reads."""
    retries: Annotated[int, Field(ge=0, le=100)] = 6
    """Attempts after the first for a request to a store, with pauses that grow to 20 s."""
    timeout_seconds: Positive = 30
    """That one request (at most 8 MiB) may take."""
    image_size: Annotated[int, Field(ge=16, le=2048)] = 224
    mean: Triple = (0.5231, 0.4044, 0.3489)
    std: tuple[Positive, Positive, Positive] = (0.2536, 0.2194, 0.2070)
    pipeline: Literal["auto", "dali", "torch"] = "auto"
    decode: Literal["auto", "once", "crops"] = "auto"
    """With DALI: decode a photo once and cut the views from it, or only the region of each view by itself; auto:
    crops on a CPU, once on a GPU."""
    threads: Count = 2
    prefetch: Count = 2
    """Batches that the pipeline works on ahead of the one being trained on."""
    shuffle_streams: Count = 32
    """How many places of the data set a global batch is read from; see `data/plan.py`."""
    shuffle_window: Whole = 4096
    """Samples that are shuffled together inside a stream; 0: the whole set at once, wherever samples lie."""
    max_bad_share: Share = 0.01
    """The run stops when more than this share of the samples read could not be decoded."""
    view1: ViewConfig = ViewConfig()
    view2: ViewConfig = ViewConfig(blur=0.1, solarise=0.2)
    local_views: Annotated[int, Field(ge=0, le=32)] = 0
    """Small crops beside the two views (multi-crop), which only the online network sees."""
    local_size: Annotated[int, Field(ge=16, le=2048)] = 96
    """Their height and width in pixels."""
    local_view: ViewConfig = ViewConfig(crop_scale=(0.05, 0.2), blur=0.5)


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
    sinkhorn_rounds: Whole = 3
    match: Literal["all", "present"] = "all"
    """Regions that are compared across views: all of them, or those that both views hold."""
    match_share: Share = 0.01
    """With present: the part of a view's pixels that a region needs to be held by it."""
    relation_match: Literal["same_view", "geometry"] = "same_view"
    """Whose assignment a view's pixels follow: the target network's of the same view, or of the other view where the
    two show the same place."""


class OptimConfig(Section):
    name: Literal["lars", "adamw"] = "lars"
    lr: Positive = 0.9
    """At a global batch of `lr_batch`; scaled linearly to the batch in use."""
    lr_batch: Count = 512
    momentum: Share = 0.9
    trust: Positive = 0.001
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: NonNegative = 1e-6
    exclude: Literal["kind", "published"] = "kind"
    """What gets neither weight decay nor adaptation: norms, biases and 1-D parameters, or the published name rule."""
    clip: Positive | None = None
    """Largest norm of the whole gradient; none when null."""
    warmup_epochs: NonNegative = 10
    warmup_steps: Whole | None = None
    """Instead of warmup_epochs."""
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    """Of the learning rate after the warm-up."""
    final_lr: NonNegative = 0.0
    """Where the cosine ends; scaled with the batch as `lr` is."""
    drops: tuple[Share, ...] = (0.6, 0.8)
    """Of schedule step: the shares of the steps after the warm-up at which the rate is divided by 10."""
    weight_decay_end: NonNegative | None = None
    """Weight decay goes there from `weight_decay` along half a cosine; null: it stays."""
    ema_momentum: Share = 0.996
    ema_schedule: Literal["cosine", "constant"] = "cosine"
    """The target's momentum rises to 1 along half a cosine, or stays."""

    @model_validator(mode="after")
    def _falling(self) -> Self:
        if self.final_lr > self.lr:
            raise ValueError(f"optim.final_lr {self.final_lr:g} is above optim.lr {self.lr:g}")
        return self


class TrainConfig(Section):
    global_batch: Annotated[int, Field(ge=2)] = 512
    """Images over all ranks and accumulation steps; each gives two views."""
    micro_batch: Count | None = None
    """The most images of one forward pass on one rank, whose share is done in equal passes; null: all at once."""
    epochs: Positive = 50
    steps: Count | None = None
    """Instead of epochs."""
    precision: Literal["auto", "bf16", "fp32", "fp64"] = "auto"
    """Of the forward and backward arithmetic (weights stay fp32); auto: bf16 on a GPU, fp32 on a CPU. fp64: weights as
    well, with train.backend=torch, to tell rounding from errors."""
    backend: Literal["deepspeed", "torch"] = "deepspeed"
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 0
    """What ranks share instead of each holding all: 1 the optimiser's state, 2 gradients as well; needs DeepSpeed."""
    deepspeed: dict[str, Any] = {}
    """Keys of DeepSpeed's own configuration that have no setting here, for example zero_optimization.overlap_comm."""
    activation_checkpointing: bool = False
    """Compute the backbone's blocks again in backward instead of keeping their activations: less memory, more time."""
    compile: bool = False
    """torch.compile of backbone and heads; on a CPU it needs a C++ compiler."""
    channels_last: bool = True
    group_views: bool | None = None
    """Both views in one pass through each network, with the batch statistics of a pass over each; null: on a GPU, or on
    several ranks, where it halves what is launched and exchanged."""
    cuda_graphs: bool = False
    """Record forward and backward once and replay them; one GPU, with train.backend=torch."""
    deterministic: bool = False
    watchdog_seconds: NonNegative | None = None
    """Without progress, after which an attempt is ended; null: from the measured time of a step, 120 at the least; 0:
    never."""
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _carried(self) -> Self:
        if self.zero_stage == 3:
            raise ValueError(
                "train.zero_stage=3 shares out the weights themselves, but the target network's update, pictures and "
                "probes read whole weights in every step: use train.zero_stage=2"
            )
        if self.compile and self.activation_checkpointing:
            raise ValueError("train.compile and train.activation_checkpointing do not go together: choose one")
        if self.cuda_graphs and self.backend != "torch":
            raise ValueError("train.cuda_graphs needs train.backend=torch")
        if self.cuda_graphs and self.activation_checkpointing:
            raise ValueError("train.cuda_graphs and train.activation_checkpointing do not go together: choose one")
        if self.precision == "fp64" and self.backend != "torch":
            raise ValueError("train.precision=fp64 needs train.backend=torch")
        if self.backend == "torch" and (self.zero_stage or self.deepspeed):
            raise ValueError("train.zero_stage and train.deepspeed need train.backend=deepspeed")
        return self


class CheckpointConfig(Section):
    """One is also written at a signal and at the end."""

    every_steps: Count = 1000
    every_minutes: Positive = 30
    asynchronous: bool = True
    """Steps wait only for a copy in memory; a thread writes it. False: they wait for the disk."""
    patience_seconds: Positive = 300
    """How long the end of a run, or a stop, waits for a disk that does not answer."""
    keep_last: Count = 3
    keep_every: Whole = 0
    """Checkpoints of steps that are a multiple of this are kept for ever; 0: none."""
    keep_best: str | None = None
    """A name of metrics.jsonl, for example `loss/total`: the checkpoint with the best value in its step's row stays."""
    best_is: Literal["lowest", "highest"] = "lowest"

    @model_validator(mode="after")
    def _saved_when_kept(self) -> Self:
        if self.keep_every % self.every_steps:
            raise ValueError(
                f"checkpoint.keep_every {self.keep_every} must be a multiple of "
                f"checkpoint.every_steps {self.every_steps}: other steps are not saved"
            )
        return self


class GuardConfig(Section):
    """What to do about steps that went wrong. Weights are never updated with what is not finite."""

    nonfinite: Literal["skip", "retry", "rollback", "stop"] = "skip"
    """skip: leave the step out; retry: go back to the last checkpoint and leave it out if it fails there again;
    rollback: go back to the last checkpoint and leave it out; stop: end the run."""
    spike: Literal["note", "rollback", "stop"] = "note"
    """The same for a loss that jumps; note: only write it down."""
    spike_score: Positive = 10.0
    """How many robust deviations above the median of the last log steps count as a jump."""
    spike_window: Annotated[int, Field(ge=16)] = 100
    """Log steps that are compared with."""
    patience: Count = 5
    """The run stops after so many steps in a row that are not finite."""


class ProbeSet(Section):
    """Labelled faces that no training photo shows, for scores while a run goes on."""

    data: str
    """Its folder."""
    dataset: str = "shards"
    """The layout, as `fra-dist eval --dataset` names it; shards: labelled shards."""
    tasks: tuple[Literal["expression", "attributes", "alignment", "regions"], ...] = ()
    """Empty: all that its labels allow."""
    name: str = ""
    """In the names of the scores; empty: that of the folder."""

    @property
    def title(self) -> str:
        return self.name or self.data.rstrip("/").rpartition("/")[2]


class ProbeConfig(Section):
    """Scores of the frozen online network, measured between steps on rank 0; see docs/probes.md."""

    every_steps: Whole = 0
    """Also before the first step and after the last one; 0: never."""
    sets: tuple[ProbeSet, ...] = ()
    images: Annotated[int, Field(ge=20)] = 600
    """Faces of a set at most: 60 % to fit, 15 % to choose, 25 % to score."""
    seconds: Annotated[float, Field(gt=0, le=600)] = 60
    """That the run may wait for the scores of one step; what is not measured by then is left out."""

    @model_validator(mode="after")
    def _named(self) -> Self:
        titles = [one.title for one in self.sets]
        if self.every_steps and not titles:
            raise ValueError("probe.every_steps is set, but probe.sets names no faces to measure with")
        for title in titles:
            if not title or titles.count(title) > 1:
                raise ValueError(f"probe.sets: each needs a name of its own, {title!r} is not: set name")
        return self


class AlarmConfig(Section):
    """Signs of collapse, looked for at log steps. Each is told once, and again only after it was over. Null: not
    looked for."""

    stop: bool = False
    """End the run at an alarm."""
    after_steps: Whole = 500
    """Nothing is judged before: the regions of a young run are alike."""
    patience: Count = 5
    """Log steps in a row that show a sign."""
    spread: Positive | None = 0.1
    """embedding/spread below this."""
    rank: Positive | None = 1.2
    """embedding/rank below this."""
    dead_regions: Share | None = 0.5
    """More than this part of the regions hold less than 1 % of the pixels each."""
    overlap: Share | None = 0.95
    """regions/overlap above this."""
    query_cosine: Share | None = 0.99
    """queries/cosine above this."""


class LogConfig(Section):
    every_steps: Count = 10
    heatmaps_every: Whole = 500
    """Steps between heatmap pictures; 0: only at the end."""
    heatmap_images: Count = 8
    pictures: bool = True
    """Draw heatmaps and curves."""
    tensorboard: bool = True
    samples: bool = False
    """Also write which samples each rank reads at every step."""
    gradient_noise: bool = False
    """Also estimate the gradient noise scale; keeps a second copy of the gradient."""
    straggler_factor: Annotated[float, Field(ge=1.0)] = 1.5
    """A rank is named that takes so many times as long as the others, for its data or its arithmetic."""


class Config(Section):
    name: str = "fra"
    output: str = "runs/fra"
    """The run folder."""
    seed: Whole = 0
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    guard: GuardConfig = GuardConfig()
    log: LogConfig = LogConfig()
    probe: ProbeConfig = ProbeConfig()
    alarm: AlarmConfig = AlarmConfig()

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.model.decoder is None and (self.loss.local > 0 or self.loss.relation > 0):
            raise ValueError("model.decoder is null (plain BYOL): set loss.local=0 and loss.relation=0 as well")
        if self.train.cuda_graphs:
            for name in ("heatmap_temperature_end", "revive_dead"):
                if getattr(self.model, name) is not None:
                    raise ValueError(f"model.{name} changes what a step does: set train.cuda_graphs=false")
        best, saved, probed = self.checkpoint.keep_best or "", self.checkpoint.every_steps, self.probe.every_steps
        if best.startswith("probe/") and (not probed or (saved % probed and probed % saved)):
            raise ValueError(
                f"checkpoint.keep_best={best} needs scores at steps that are saved: of checkpoint.every_steps "
                f"({saved}) and probe.every_steps ({probed}) one must be a multiple of the other"
            )
        return self
