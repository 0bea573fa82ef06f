"""The embedded judge: category, colour and design of catalogue objects in images, from a small network that ships with the package.

    judge = Judge.load()
    judge.alignment(images, "a red chair with a tall back")  # P(chair | x) · P(red | x) · P(tall back | chair, x), in [0, 1]

It was trained on renders of the procedural catalogue with seeds that the embedded prior never sees (docs/judge.md). Its features give a
FID, its category probabilities an Inception Score, its labels mode coverage, all for images of *catalogue* objects: these figures can be
compared with each other, not with CLIP or Inception figures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor

from fsd_gs.core.types import check_shape
from fsd_gs.errors import FileFormatError, InputError, unknown_name
from fsd_gs.metrics.judge.network import JudgeNetwork, JudgeSizes
from fsd_gs.metrics.judge.words import Asked, WordTable

SHIPPED = Path(__file__).parent / "weights"
RECORD, WEIGHTS = "judge.json", "judge.safetensors"
_CHUNK = 64  # images a forward pass: bounds the memory of long image sets


@dataclass(frozen=True)
class JudgeOutput:
    """Logits category [B, Kc], color [B, Kcol], design [B, Kd] (all designs of all categories) and features [B, F]; float32."""

    category: Tensor
    color: Tensor
    design: Tensor
    features: Tensor


@dataclass(frozen=True)
class Modes:
    """What the views of one asset show by majority; ``design`` is "category/design". The shares in (0, 1] say how many views agree."""

    category: str
    color: str
    design: str
    category_share: float
    color_share: float
    design_share: float


class Judge:
    """The trained network with its labels and words. ``name`` goes beside every figure it makes."""

    def __init__(self, network: JudgeNetwork, record: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
        self.name: str = record["name"]
        self.categories: tuple[str, ...] = tuple(record["labels"]["categories"])
        self.colors: tuple[str, ...] = tuple(record["labels"]["colors"])
        self.designs: tuple[str, ...] = tuple(record["labels"]["designs"])
        self.words = WordTable.from_json(record["words"])
        self.card: dict[str, Any] = record["card"]
        self.device = torch.device(device)
        self._size, self._mean, self._std = (record["preprocessing"][key] for key in ("size", "mean", "std"))
        self._network = network.to(self.device).float().eval().requires_grad_(False)
        owners = torch.tensor([self.categories.index(design.split("/")[0]) for design in self.designs], device=self.device)
        self._owned = owners[None] == torch.arange(len(self.categories), device=self.device)[:, None]  # [Kc, Kd]

    @classmethod
    def load(cls, folder: Path | str | None = None, device: torch.device | str = "cpu") -> Judge:
        """The judge in ``folder`` (None: the shipped one); :class:`FileFormatError` if a file is missing, damaged or of other weights."""
        folder = SHIPPED if folder is None else Path(folder)
        record = _read_record(folder / RECORD)
        data = _read(folder / WEIGHTS)
        actual = hashlib.sha256(data).hexdigest()
        if actual != record["sha256"]:
            raise FileFormatError(
                f"{folder / WEIGHTS}: expected the checksum sha256 {record['sha256'][:12]}… of {RECORD}, got {actual[:12]}…; "
                "the file is damaged or belongs to another training: reinstall the package or export the judge again"
            )
        try:
            network = JudgeNetwork(JudgeSizes.from_json(record["network"]))
            network.load_state_dict(safetensors.torch.load(data))
            return cls(network, record, device)
        except (SafetensorError, RuntimeError, TypeError, KeyError, ValueError) as problem:
            reason = str(problem).splitlines()[0]
            raise FileFormatError(f"{folder}: expected weights that fit {RECORD}, got: {reason}; export the judge again") from problem

    @torch.no_grad()
    def __call__(self, images: Tensor) -> JudgeOutput:
        """images [B, 3, H, W] in [0, 1], any size, sRGB. Other sizes are resized with antialiasing, after padding to a square."""
        check_shape("images", images, ("B", 3, "H", "W"))
        if not images.is_floating_point():
            raise InputError(f"images: expected floating point values in [0, 1], got {images.dtype}; divide by 255")
        if not len(images):
            raise InputError("images: expected at least 1 image, got 0")
        outputs = [self._network(self._prepare(chunk)) for chunk in images.split(_CHUNK)]
        return JudgeOutput(*(torch.cat(parts) for parts in zip(*outputs, strict=True)))

    def _prepare(self, images: Tensor) -> Tensor:
        x = images.detach().to(self.device, torch.float32)
        height, width = x.shape[-2:]
        if height != width:
            across, down = max(0, height - width), max(0, width - height)
            x = F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2), mode="replicate")
        if x.shape[-1] != self._size:
            x = F.interpolate(x, size=(self._size, self._size), mode="bilinear", antialias=True)
        return (x.clamp(0, 1) - self._mean) / self._std

    def embed(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] → features [B, F]: an :class:`~fsd_gs.metrics.protocols.ImageEmbedder`."""
        return self(images).features

    def probabilities(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] → category probabilities [B, Kc]: an :class:`~fsd_gs.metrics.protocols.ImageClassifier`."""
        return self(images).category.softmax(dim=1)

    def alignment(self, images: Tensor, prompt: str) -> Tensor:
        """[B] in [0, 1]: P(category) times P(colour) and P(design | category) where the prompt names them.

        A :class:`~fsd_gs.metrics.protocols.PromptScorer`. :class:`InputError` if the prompt names no category of the catalogue."""
        asked = self.read(prompt)
        return self.agreement(self(images), asked)

    def read(self, prompt: str) -> Asked:
        """What the prompt asks for in the judge's labels; :class:`InputError` if it names no category."""
        return self.words.read(prompt)

    def agreement(self, output: JudgeOutput, asked: Asked) -> Tensor:
        """[B] probability of what was ``asked``, from an output that was already computed."""
        category = _place("category", asked.category, self.categories)
        score = output.category.softmax(dim=1)[:, category]
        if asked.color is not None:
            score = score * output.color.softmax(dim=1)[:, _place("color", asked.color, self.colors)]
        if asked.design is not None:
            design = _place("design", asked.design, self.designs)
            if not bool(self._owned[category, design]):
                raise InputError(f"design: expected one of category '{asked.category}', got '{asked.design}'")
            score = score * self._design_given(output, category)[:, design]
        return score

    def modes(self, output: JudgeOutput) -> Modes:
        """Majority labels over the views of *one* asset: an output of [V, …]. Equal votes go to the larger mean probability; the design
        is chosen among those of the winning category."""
        category, category_share = _vote(output.category.softmax(dim=1))
        color, color_share = _vote(output.color.softmax(dim=1))
        design, design_share = _vote(self._design_given(output, category))
        return Modes(self.categories[category], self.colors[color], self.designs[design], category_share, color_share, design_share)

    def _design_given(self, output: JudgeOutput, category: int) -> Tensor:
        """[B, Kd] P(design | category): zero for the designs of other categories."""
        return output.design.masked_fill(~self._owned[category], float("-inf")).softmax(dim=1)


def _vote(probabilities: Tensor) -> tuple[int, float]:
    """(winner, share of the rows that voted for it) from rows [V, K]; a mean probability below ½ vote breaks ties."""
    views, classes = probabilities.shape
    votes = torch.bincount(probabilities.argmax(dim=1), minlength=classes)
    winner = int((votes + 0.5 * probabilities.mean(dim=0)).argmax())
    return winner, int(votes[winner]) / views


def _place(argument: str, name: str, names: tuple[str, ...]) -> int:
    if name not in names:
        raise InputError(unknown_name(argument, name, names))
    return names.index(name)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise FileFormatError(
            f"{path}: expected a file of the judge, got {problem.strerror or problem}; give the folder that holds it"
        ) from problem


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(_read(path))
    except ValueError as problem:
        raise FileFormatError(f"{path}: expected JSON, got {problem}") from problem
    needed = ("name", "sha256", "network", "preprocessing", "labels", "words", "card")
    missing = [key for key in needed if key not in record] if isinstance(record, dict) else list(needed)
    if missing:
        raise FileFormatError(f"{path}: expected the entries {', '.join(needed)}; missing: {', '.join(missing)}")
    return record
