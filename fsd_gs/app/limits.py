"""How much one person may ask of a machine that several share. What a page may name at all is ``viewer.form``'s."""

from __future__ import annotations

from dataclasses import dataclass

from fsd_gs.config import Config
from fsd_gs.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """What whoever starts the app allows.

    Attributes:
        waiting: Assets in the queue, besides the one that is being made.
        steps: Of one asset.
        size: Sides of pictures in pixels, of training and of the turntable.
        splats: Of one asset.
        views: Rendered a step.
        body_bytes: Of one request.
        connections: Open at a time, event streams included.
        stream_seconds: After which an event stream ends; browsers come back by themselves.
    """

    waiting: int = 20
    steps: int = 2000
    size: int = 512
    splats: int = 100_000
    views: int = 16
    body_bytes: int = 64 * 1024
    connections: int = 200
    stream_seconds: float = 300.0

    def check(self, config: Config) -> None:
        """ConfigError, one line, for settings that are more than is allowed here."""
        asked = (
            ("steps", config.steps, self.steps),
            ("render.sizes", max(config.render.sizes), self.size),
            ("outputs.turntable_size", config.outputs.turntable_size, self.size),
            ("outputs.turntable_frames", config.outputs.turntable_frames, 240),
            ("splats.count", config.splats.count, self.splats),
            ("densify.cap", config.densify.cap, self.splats),
            ("cameras.views", config.cameras.views, self.views),
        )
        for key, value, most in asked:
            if value > most:
                raise ConfigError(f"{key}: expected at most {most} in this app, got {value}; use the command line for more")
        if config.count != 1:
            raise ConfigError(f"count: expected 1, got {config.count}; ask once for each asset")
