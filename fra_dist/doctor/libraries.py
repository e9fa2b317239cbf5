"""Checks of DALI and DeepSpeed, each by what a run asks of it."""

import io
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fra_dist import distributed
from fra_dist.config import DataConfig, ViewConfig, load_config
from fra_dist.doctor.result import CheckResult, fail, ok, reason, warn
from fra_dist.doctor.subject import Subject
from fra_dist.errors import ConfigError

if TYPE_CHECKING:
    from fra_dist.data.decoding.pipeline import Pipeline

_SIDE, _LEVELS = 64, 3.0
_TINY = (
    *("data.image_size=32", "model.backbone=tiny", "model.regions=4", "model.width=16", "model.hidden=32"),
    *("model.decoder.layers=1", "model.decoder.heads=2", "model.decoder.feedforward=32", "optim.warmup_steps=0"),
    *("train.global_batch=8", "train.steps=2"),
)
_DALI = "run `make setup` again, or set data.pipeline=torch, which decodes with Pillow"


def check_dali(subject: Subject) -> CheckResult:
    """Whether DALI decodes a real JPEG to the pixels that Pillow gives, as the input of a run does."""
    from fra_dist.data.decoding.torch_pipeline import TorchPipeline

    on = torch.device("cuda", 0) if torch.cuda.is_available() and subject.device != "cpu" else torch.device("cpu")
    plain = ViewConfig(jitter=0.0, grey=0.0, blur=0.0, flip=0.0)
    config = DataConfig(image_size=_SIDE, threads=1, view1=plain, view2=plain, pipeline="dali")
    try:
        from fra_dist.data.decoding.dali_pipeline import DaliPipeline

        theirs = _decode(DaliPipeline(config, on, 2), config)
    except (ImportError, OSError, RuntimeError) as error:
        return fail(f"DALI does not decode a JPEG on {on.type}: {reason(error)}", _DALI)
    ours = _decode(TorchPipeline(config, torch.device("cpu")), config)
    apart = float((theirs.float().cpu() - ours).abs().mean()) * 255 * min(config.std)
    found = f"a JPEG decoded and cropped on {on.type}, {apart:.1f} of 255 levels from Pillow on average"
    return fail(found, _DALI) if apart > _LEVELS else ok(found)


def _decode(pipeline: "Pipeline", config: DataConfig) -> Tensor:
    """The first view of two synthetic faces, (2, 3, S, S)."""
    import numpy as np
    from PIL import Image

    from fra_dist.data.decoding.images import probe
    from fra_dist.data.decoding.pipeline import Request
    from fra_dist.data.order.views import draw_views, views_of
    from fra_dist.synthetic import render

    photos: list[bytes] = []
    for face in render(np.arange(2), 96).images:
        out = io.BytesIO()
        Image.fromarray(np.asarray(face, np.uint8)).save(out, "JPEG", quality=95)
        photos.append(out.getvalue())
    sides, ids = np.full(2, 96), np.arange(2)
    views = (draw_views(view, 0, 0, ids, n, sides, sides) for n, (view, _) in enumerate(views_of(config)))
    pipeline.submit(Request(photos, [probe(photo) for photo in photos], tuple(views)))
    decoded = pipeline.collect()
    if pipeline.stream is not None:
        pipeline.stream.synchronize()
    view = decoded[0].clone()
    pipeline.close()
    return view


def check_step(subject: Subject) -> CheckResult:
    """Whether the engine of a run (DeepSpeed, or PyTorch) takes a step of a very small model, and the weights move."""
    from fra_dist.models.fra import FRA
    from fra_dist.train.engines.build import build_engine
    from fra_dist.train.execution import set_execution
    from fra_dist.train.optim.parameter_groups import build_optimizer
    from fra_dist.train.sizes import derive_sizes
    from fra_dist.train.step import Step

    config = load_config(None, [*_TINY, f"train.device={subject.device}", f"train.backend={subject.backend}"])
    remedy = "run `make setup` again, or set train.backend=torch"
    try:
        ctx = distributed.start(config.train.device)
        model = FRA(config.model).to(ctx.device).train()
        set_execution(model, config.train, ctx.device)
        optimizer = build_optimizer(model, config.optim)
        sizes = derive_sizes(config, 64, 1)
        step = Step(config, model, build_engine(config, model, optimizer, ctx, sizes), optimizer, ctx, sizes)
        before = [p.detach().clone() for p in model.online.parameters()]
        views = torch.randn(2, 8, 3, 32, 32, device=ctx.device)
        loss = float(step.run(0, (views[0], views[1]), None)["total"])
        moved = any(bool((p != q).any()) for p, q in zip(model.online.parameters(), before, strict=True))
    except (ImportError, RuntimeError, OSError, ConfigError) as error:
        return fail(f"{subject.backend} takes no step: {reason(error)}", remedy)
    finally:
        distributed.stop()
    found = f"{subject.backend} took a step of a small model on {ctx.device.type}, loss {loss:.2f}"
    return ok(found) if moved else warn(f"{found}, but no weight moved", remedy)
