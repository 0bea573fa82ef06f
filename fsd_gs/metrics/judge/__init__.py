"""The judge: a small classifier of pictures of catalogue objects, independent of the embedded prior."""

from fsd_gs.metrics.judge.inference import RECORD, SHIPPED, WEIGHTS, Judge, JudgeOutput, Modes

__all__ = ["RECORD", "SHIPPED", "WEIGHTS", "Judge", "JudgeOutput", "Modes"]
