"""The hook that draws pictures during a run: heatmap sheets every N steps, curves and a last sheet at the end."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fra_dist.config import Config
from fra_dist.data.decoding.images import BadImage, decode
from fra_dist.data.loading.batch import Batch
from fra_dist.data.shards.manifest import Manifest
from fra_dist.data.shards.reader import ShardReader
from fra_dist.errors import AccessError, DataError, DiskError
from fra_dist.json_lines import thinned
from fra_dist.report.run_pictures import draw_run_heatmaps
from fra_dist.train.trainer import Hook, Run


class RunPictures(Hook):
    """Draws the same photos each time, so that the pictures of a run show how regions form."""

    def begin(self, run: Run) -> None:
        """Choose the photos, and draw them once before the first step of a new run."""
        self.images: Tensor | None = None
        self.drawn_at = -1
        self.wanted = run.config.log.pictures
        if run.ctx.is_main and run.config.model.decoder is not None and self.wanted:
            self.images = sample_photos(run.config, run.manifest, run.config.log.heatmap_images)
            if run.completed == 0 and run.config.log.heatmaps_every:
                self._draw(run)

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        """Draw the photos' regions every `log.heatmaps_every` steps."""
        every = run.config.log.heatmaps_every
        if every and run.completed % every == 0 and self.wanted:
            self._draw(run)

    def end(self, run: Run) -> None:
        """Draw a last sheet if the last step has none yet, and the curves; nothing when the run was asked to stop."""
        if not self.wanted or run.stopped_by is not None:
            return
        if self.drawn_at != run.completed:
            self._draw(run)
        if run.ctx.is_main:
            from fra_dist.report.curves import draw_curves  # matplotlib is slow to import, and a start should be quick

            with _reported():
                rows = thinned(run.folder.path / "metrics.jsonl")
                draw_curves({run.config.name: rows}, run.folder.path / "curves.png", regions=run.config.model.regions)

    def _draw(self, run: Run) -> None:
        self.drawn_at = run.completed
        if self.images is None or not len(self.images):
            return
        path = run.folder.heatmaps / f"step-{run.completed:08d}.png"
        with _reported():
            draw_run_heatmaps(
                run.model.online,
                self.images.to(run.ctx.device, run.step.dtype),
                path,
                mean=run.config.data.mean,
                std=run.config.data.std,
                title=f"{run.config.name}, step {run.completed}",
            )


@contextmanager
def _reported() -> Iterator[None]:
    """A picture that the disk does not take is no reason to stop training."""
    try:
        yield
    except OSError as error:
        print(f"warning: cannot draw {error.filename or 'a picture'}: {error.strerror or error}", file=sys.stderr)
    except (DiskError, AccessError, DataError) as error:
        print(f"warning: cannot draw a picture: {error}", file=sys.stderr)


def sample_photos(config: Config, manifest: Manifest, count: int) -> Tensor:
    """Normalised photos (n, 3, S, S) spread over the data set, n <= count: broken ones are left out."""
    ids = np.unique(np.linspace(0, manifest.total - 1, count).astype(np.int64))
    reader = ShardReader(manifest)
    try:
        found = [
            p for p in (_photo(stored.data, config.data.image_size) for stored in reader.read(ids)) if p is not None
        ]
    finally:
        reader.close()
    if not found:
        return torch.empty(0, 3, config.data.image_size, config.data.image_size)
    pixels = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (config.data.mean, config.data.std))
    return (pixels - mean) / std


def _photo(data: bytes, size: int) -> np.ndarray | None:
    """The middle square of a photo at (size, size)."""
    try:
        image = Image.fromarray(decode(data))
    except BadImage:
        return None
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC))
