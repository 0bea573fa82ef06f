"""The figures printed in arXiv:2405.10988 (v1, appendix), and when ours may stand beside them.

Protocol there: 16 prompts × 4 seeds, 24 views an asset, CLIP ViT-B/32, Inception Score of the views of a prompt, CROSS-FID between seeds
{0, 1} and {2, 3}, all averaged over prompts, ± standard deviation. The backbone's version, the settings and nine of the prompts are not
known, so even comparable figures answer the same question about other prompts.
"""

from __future__ import annotations

from dataclasses import dataclass

from fsd_gs.experiments.evaluate.suite import Suite


@dataclass(frozen=True)
class PaperRow:
    """Mean ± standard deviation as printed; None where the paper prints –."""

    backbone: str
    method: str
    alignment: tuple[float, float]
    inception_score: tuple[float, float]
    cross_fid: tuple[float, float] | None


PAPER_ROWS = (
    PaperRow("Stable Diffusion", "DDIM images", (33.72, 1.83), (1.68, 0.55), None),
    PaperRow("Stable Diffusion", "sds", (32.57, 1.43), (1.58, 0.47), (106.5, 58.3)),
    PaperRow("Stable Diffusion", "fsd", (32.72, 1.56), (1.78, 0.49), (141.8, 57.9)),
    PaperRow("MVDream", "DDIM images", (34.64, 2.56), (2.02, 0.47), None),
    PaperRow("MVDream", "sds", (30.93, 3.40), (1.77, 0.37), (86.6, 33.4)),
    PaperRow("MVDream", "fsd", (30.12, 3.07), (2.13, 0.35), (174.8, 44.5)),
)
BACKBONES = {"sd15": "Stable Diffusion", "sd21": "Stable Diffusion", "mvdream": "MVDream"}
SEEDS, VIEWS, PROMPTS = 4, 24, 16


def paper_rows(suite: Suite, comparable_scorers: bool) -> list[PaperRow]:
    """The paper's rows for the suite's backbone, where protocol and networks are the paper's; else none."""
    same = len(suite.seeds) == SEEDS and suite.views == VIEWS and len(suite.prompts) == PROMPTS
    backbone = BACKBONES.get(suite.prior)
    return [row for row in PAPER_ROWS if row.backbone == backbone] if same and comparable_scorers else []


def why_not(suite: Suite, comparable_scorers: bool) -> str:
    """One line: why the paper's figures are not beside ours; empty where they are."""
    if paper_rows(suite, comparable_scorers):
        return ""
    if not comparable_scorers:
        return "the networks are not the paper's (CLIP ViT-B/32 and the FID Inception)"
    if suite.prior not in BACKBONES:
        return f"the paper has no figures for the prior '{suite.prior}' (it has them for Stable Diffusion and MVDream)"
    return (
        f"the protocol is not the paper's ({PROMPTS} prompts × {SEEDS} seeds × {VIEWS} views), but {len(suite.prompts)} × "
        f"{len(suite.seeds)} × {suite.views}"
    )
