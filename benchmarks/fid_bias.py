"""What FID reports for two sets of one distribution, by set size: the bias table of docs/metrics.md. Run: python benchmarks/fid_bias.py

Features are normal in 2048 dimensions with variances 1/i; figures in units of the total variance. True values: 0, and 0.5 where shifted.
"""

import torch

from fsd_gs.metrics.distribution import fid

SIZE, DRAWS = 2048, 3


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    deviations = torch.arange(1, SIZE + 1, dtype=torch.float64).rsqrt()
    total = deviations.square().sum()
    shift = torch.zeros(SIZE, dtype=torch.float64)
    shift[0] = (total / 2).sqrt()

    def ratio(count: int, offset: torch.Tensor | float = 0.0) -> float:
        first, second = (torch.randn(count, SIZE, generator=generator, dtype=torch.float64) * deviations for _ in range(2))
        return fid(first, second + offset) / total.item()

    for count in (24, 48, 96, 480, 1000):
        same, shifted = ([ratio(count, offset) for _ in range(DRAWS)] for offset in (0.0, shift))
        print(count, "same:", " ".join(f"{x:.2f}" for x in same), " shifted:", " ".join(f"{x:.2f}" for x in shifted))


if __name__ == "__main__":
    main()
