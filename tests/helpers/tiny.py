"""Settings of a run that takes seconds."""

TINY = [
    *("data.image_size=32", "data.threads=1", "model.backbone=tiny", "model.regions=4", "model.width=16"),
    *("model.hidden=32", "model.decoder.layers=1", "model.decoder.heads=2", "model.decoder.feedforward=32"),
    *("optim.warmup_steps=2", "train.global_batch=8", "train.steps=8", "train.device=cpu"),
    "train.precision=fp32",  # whatever the CPU computes in
    *("log.every_steps=1", "log.heatmaps_every=0", "log.tensorboard=false", "log.heatmap_images=2"),
]
