"""Progress of `fra-dist embed`."""

import sys
import time
from typing import Any

from fra_dist.formats import clock_text


class Clock:
    """Progress with the time that is left: a bar on a terminal, elsewhere a line every 15 seconds."""

    def __init__(self, total: int, done: int) -> None:
        from tqdm import tqdm

        self.total, self.done, self.first, self.bad = total, done, done, 0
        self.began = self.said = time.monotonic()
        shown = sys.stderr.isatty()
        self.bar: Any = tqdm(total=total, initial=done, unit="photo", desc="embed") if shown else None
        if done and not shown:
            print(f"resuming after {done} of {total} photos", flush=True)

    def tell(self, photos: int, bad: int) -> None:
        """Count a batch of photos, of which `bad` could not be decoded."""
        self.done, self.bad = self.done + photos, self.bad + bad
        if self.bar is not None:
            self.bar.update(photos)
            self.bar.set_postfix_str(f"{self.bad} left out" if self.bad else "", refresh=False)
            return
        now = time.monotonic()
        if now - self.said > 15:
            self.said = now
            rate = (self.done - self.first) / (now - self.began)
            left = int((self.total - self.done) / max(rate, 1e-9))
            print(
                f"{self.done} of {self.total} photos, {rate:.0f} a second, {clock_text(left)} left",
                flush=True,
            )

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()
