"""How weights are moved, on what, and what is kept of them."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fra_dist.config.section import Count, NonNegative, Positive, Section, Share, Whole


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
    global_batch: Annotated[int, Field(ge=2, le=2**20)] = 512
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
    deepspeed: dict[str, Any] = Field(default_factory=dict)
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
    spike_window: Annotated[int, Field(ge=16, le=100_000)] = 100
    """Log steps that are compared with."""
    patience: Count = 5
    """The run stops after so many steps in a row that are not finite."""
