"""How weights are moved, on what, and what is kept of them."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fra_dist.config.section import Count, NonNegative, Positive, Section, Share, Whole


class OptimConfig(Section):
    """The optimiser, its schedules, and the target network's momentum."""

    name: Literal["lars", "adamw"] = "lars"
    """The optimiser: lars, or adamw."""
    lr: Positive = 0.9
    """Peak learning rate at a global batch of `lr_batch`; scaled linearly to the batch in use."""
    lr_batch: Count = 512
    """Global batch, in images, that `lr` and `final_lr` are given for."""
    momentum: Share = 0.9
    """Momentum of LARS: the share of the last update that is kept; adamw uses `betas` instead."""
    trust: Positive = 0.001
    """Trust coefficient of LARS: length of an update relative to the length of the weights, at learning rate 1."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay rates of AdamW's running means of the gradient and of its square, per step."""
    weight_decay: NonNegative = 1e-6
    """Weight decay at the first step, on all parameters that `exclude` does not leave out."""
    exclude: Literal["kind", "published"] = "kind"
    """What gets neither weight decay nor LARS adaptation: norms, biases and 1-D parameters (kind), or what the
    published rule finds by parameter names (published)."""
    clip: Positive | None = None
    """Largest norm of the whole gradient, which is scaled down to it; null: gradients are not clipped."""
    warmup_epochs: NonNegative = 10
    """Epochs over which the learning rate rises linearly from 0 to its peak; not used when warmup_steps is set."""
    warmup_steps: Whole | None = None
    """Steps over which the learning rate rises, instead of warmup_epochs; null: warmup_epochs counts."""
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    """Shape of the learning rate after the warm-up: cosine to final_lr, constant, or step (divided by 10 at each of
    `drops`)."""
    final_lr: NonNegative = 0.0
    """Learning rate at which schedule=cosine ends; scaled with the batch as `lr` is."""
    drops: tuple[Share, ...] = (0.6, 0.8)
    """With schedule=step: the shares of the steps after the warm-up at which the learning rate is divided by 10."""
    weight_decay_end: NonNegative | None = None
    """Weight decay at the last step, reached from `weight_decay` along half a cosine; null: it stays as it is."""
    ema_momentum: Share = 0.996
    """Share of the target network's weights that is kept at each step; the rest comes from the online network."""
    ema_schedule: Literal["cosine", "constant"] = "cosine"
    """The target network's momentum rises from ema_momentum to 1 along half a cosine, or stays constant."""

    @model_validator(mode="after")
    def _falling(self) -> Self:
        if self.final_lr > self.lr:
            raise ValueError(f"optim.final_lr {self.final_lr:g} is above optim.lr {self.lr:g}")
        return self


class TrainConfig(Section):
    """Batch, length, precision and device of the training."""

    global_batch: Annotated[int, Field(ge=2, le=2**20)] = 512
    """Images of one step over all ranks and accumulation passes; each gives two views."""
    micro_batch: Count | None = None
    """The most images in one forward pass on one rank, whose share of a step is then done in equal passes; null: all at
    once."""
    epochs: Positive = 50
    """Length of the run in passes over the data set; not used when `steps` is set."""
    steps: Count | None = None
    """Length of the run in steps, instead of epochs; null: epochs counts."""
    precision: Literal["auto", "bf16", "fp32", "fp64"] = "auto"
    """Number format of the forward and backward arithmetic (weights stay fp32); auto: bf16 on a GPU, and without
    the relation term on CPUs that have instructions for it (AVX-512 BF16, AMX) and are measured to be faster with
    them, otherwise fp32; a resumed run keeps what it began with. fp64: weights as well, with train.backend=torch, to
    tell rounding from errors."""
    backend: Literal["deepspeed", "torch"] = "deepspeed"
    """What runs forward, backward and the sums over ranks: deepspeed, or torch (plain PyTorch)."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 0
    """What ranks share instead of each holding all of it: 0 nothing, 1 the optimiser's state, 2 gradients as well;
    needs DeepSpeed."""
    deepspeed: dict[str, Any] = Field(default_factory=dict)
    """Keys of DeepSpeed's own configuration that have no key here, for example zero_optimization.overlap_comm."""
    activation_checkpointing: bool = False
    """Compute the backbone's blocks again in backward instead of keeping their activations: less memory, more time."""
    compile: bool = False
    """Compile backbone and heads with torch.compile; on a CPU it needs a C++ compiler."""
    channels_last: bool = True
    """Keep weights and feature maps in the channels-last memory layout, which convolutions on a GPU prefer."""
    group_views: bool | None = None
    """Both views in one pass through each network, with the batch statistics of a pass over each; null: on a GPU, or on
    several ranks, where it halves kernel launches and collectives."""
    cuda_graphs: bool | None = None
    """Record forward and backward as CUDA graphs after a few steps and replay them, in a fraction of the host's time;
    null: on a GPU, where that can be done and its gradients prove right; true: an error where it cannot be done."""
    deterministic: bool = False
    """Use only algorithms that give the same bits every time, which are slower on a GPU; on a CPU, PyTorch's
    convolutions, without a measurement."""
    watchdog_seconds: NonNegative | None = None
    """Seconds without progress after which an attempt is ended; null: from the measured time of a step, 120 at the
    least; 0: never."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train: cpu, or cuda; auto: cuda where there is a GPU."""

    @model_validator(mode="after")
    def _carried(self) -> Self:
        if self.zero_stage == 3:
            raise ValueError(
                "train.zero_stage=3 shares out the weights themselves, but the target network's update, pictures and "
                "probes read whole weights in every step: use train.zero_stage=2"
            )
        if self.compile and self.activation_checkpointing:
            raise ValueError("train.compile and train.activation_checkpointing do not go together: choose one")
        if self.cuda_graphs and self.zero_stage:
            raise ValueError("train.cuda_graphs and train.zero_stage do not go together: choose one")
        if self.cuda_graphs and self.activation_checkpointing:
            raise ValueError("train.cuda_graphs and train.activation_checkpointing do not go together: choose one")
        if self.precision == "fp64" and self.backend != "torch":
            raise ValueError("train.precision=fp64 needs train.backend=torch")
        if self.backend == "torch" and (self.zero_stage or self.deepspeed):
            raise ValueError("train.zero_stage and train.deepspeed need train.backend=deepspeed")
        return self


class CheckpointConfig(Section):
    """When checkpoints are written, also at a signal and at the end, and which of them are kept."""

    every_steps: Count = 1000
    """Steps between checkpoints."""
    every_minutes: Positive = 30
    """Minutes after the last checkpoint at which one is written all the same."""
    asynchronous: bool = True
    """Steps wait only for a copy in memory, which a thread writes to disk; false: they wait for the disk."""
    patience_seconds: Positive = 300
    """Seconds that the end of a run, or a stop, waits for a disk that does not answer."""
    keep_last: Count = 3
    """Number of newest checkpoints that are kept."""
    keep_every: Whole = 0
    """Checkpoints of steps that are a multiple of this are kept for ever; 0: none."""
    keep_best: str | None = None
    """A name of metrics.jsonl, for example `loss/total`: the checkpoint with the best value in its step's row is kept;
    null: none is kept for its score. A name that no row will have is refused at the start."""
    best_is: Literal["lowest", "highest"] = "lowest"
    """Whether the lowest or the highest value of the metric of `keep_best` is the best."""

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
    """What to do about a step whose loss or gradient is not finite. skip: leave it out; retry: go back to the last
    checkpoint and leave it out if it fails there again; rollback: go back to the last checkpoint and leave it out;
    stop: end the run."""
    spike: Literal["note", "rollback", "stop"] = "note"
    """What to do about a loss that jumps. note: only write it down; rollback: go back to the last checkpoint and leave
    the step out; stop: end the run."""
    spike_score: Positive = 10.0
    """Number of robust deviations above the median of the last log steps from which a loss counts as a jump."""
    spike_window: Annotated[int, Field(ge=16, le=100_000)] = 100
    """Number of log steps whose losses a new loss is compared with."""
    patience: Count = 5
    """The run stops after this number of steps in a row that are not finite."""
