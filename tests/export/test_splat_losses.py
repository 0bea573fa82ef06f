"""What a format cannot hold is said, with the number of splats and the largest error, and refused where the caller is strict."""

import re
import warnings

import numpy as np
import pytest
import torch

from fsd_gs.core.types import Gaussians
from fsd_gs.errors import InputError
from fsd_gs.export.formats import load_splats, save_splats
from fsd_gs.export.palette import palette
from fsd_gs.export.quantise import morton_order

PACKED = [".compressed.ply", ".splat", ".spz", ".sog"]


def splats(count=600, radius=1.0, sh_degree=0):
    """Splats all through a cube of half side ``radius``, whose values every format can hold."""
    g = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.rand(*shape, generator=g)

    quats = torch.nn.functional.normalize(rand(count, 4) - 0.5, dim=1)
    sh = torch.cat([rand(count, 1, 3) - 0.5, 0.2 * (rand(count, (sh_degree + 1) ** 2 - 1, 3) - 0.5)], dim=1)
    return Gaussians((2 * rand(count, 3) - 1) * radius, quats, 0.02 * radius * (1 + rand(count, 3)), 0.2 + 0.7 * rand(count), sh)


def written(gaussians, path):
    """(what comes back, the warnings)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        save_splats(gaussians, path)
        return load_splats(path), [str(w.message) for w in caught]


@pytest.mark.parametrize("suffix", [".ply", *PACKED])
@pytest.mark.parametrize("sh_degree", [0, 3])
def test_nothing_is_said_of_what_fits(tmp_path, suffix, sh_degree):
    assert written(splats(sh_degree=sh_degree), tmp_path / f"a{suffix}")[1] == []
    save_splats(splats(sh_degree=sh_degree), tmp_path / f"a{suffix}", strict=True)


@pytest.mark.parametrize("suffix", [".ply", *PACKED])
@pytest.mark.parametrize("field", ["means", "quats", "scales", "opacities", "sh"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_dropped_with_a_count(tmp_path, suffix, field, value):
    bad = splats()
    getattr(bad, field).view(600, -1)[5, 0] = value
    after, said = written(bad, tmp_path / f"a{suffix}")
    assert len(after) == 599
    assert said == [f"{tmp_path}/a{suffix}: dropped 1 of 600 splats with values that are not finite"]
    with pytest.raises(InputError, match=f"b{suffix} strictly: dropped 1 of 600"):
        save_splats(bad, tmp_path / f"b{suffix}", strict=True)
    assert not (tmp_path / f"b{suffix}").exists()


def test_only_rows_that_are_not_finite(tmp_path):
    nothing = Gaussians(*(torch.full_like(v, torch.nan) for v in vars(splats(3)).values()))
    for suffix in (".compressed.ply", ".spz", ".sog"):
        with pytest.raises(InputError, match="there are no splats"), pytest.warns(UserWarning, match="dropped 3 of 3"):
            save_splats(nothing, tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".ply", *PACKED])
def test_opacities_and_scales_that_cannot_be(tmp_path, suffix):
    odd = splats()
    odd.opacities[3], odd.opacities[4], odd.scales[9, 1] = 1.25, -0.5, -0.01
    after, said = written(odd, tmp_path / f"a{suffix}")
    assert [line.split(": ", 1)[1] for line in said] == [
        "dropped 1 of 600 splats with values that are not finite",
        "opacities outside [0, 1] of 2 of 599 splats change by up to 0.5 when clipped",
    ]
    assert len(after) == 599
    assert (after.opacities.min(), after.opacities.max()) == (pytest.approx(0, abs=1e-7), pytest.approx(1, abs=1e-7))


@pytest.mark.parametrize("suffix", [".ply", *PACKED])
def test_quaternions_of_any_length(tmp_path, suffix):
    odd = splats(4)
    want = odd.quats.clone()
    want[2] = torch.tensor([0.5, 0.5, 0.5, 0.5] if suffix == ".spz" else [1.0, 0, 0, 0])  # none at all: the identity in the file's axes
    odd.quats.mul_(torch.tensor([[0.01], [3.0], [0.0], [1.0]]))
    save_splats(odd, tmp_path / f"a{suffix}", **({} if suffix == ".spz" else {"target": "raw"}))
    after = load_splats(tmp_path / f"a{suffix}")
    match = (after.means[:, None] - odd.means[None]).abs().sum(dim=2).argmin(dim=0)
    assert ((after.quats[match] * want).sum(dim=1).abs() > 0.9999).all()


def test_pages_and_pictures_drop_them_as_well(tmp_path):
    bad = splats()
    bad.means[5, 0] = torch.nan
    with pytest.warns(UserWarning, match=r"a.html: dropped 1 of 600 splats"):
        save_splats(bad, tmp_path / "a.html")


# SPZ


def test_spz_far_away(tmp_path):
    """12 fractional bits end at 2048; there are as many as the furthest splat leaves."""
    far = splats(20)
    far.means[0] = torch.tensor([2500.0, -3000.0, 0.5])
    after, said = written(far, tmp_path / "a.spz")
    assert (after.means - far.means).abs().max() < 1e-3
    assert said == []


def test_spz_further_than_that(tmp_path):
    far = splats()
    far.means[0] = torch.tensor([1e5, 0.0, 0.0])
    after, said = written(far, tmp_path / "a.spz")
    (line,) = said
    count, error = re.search(r"positions of (\d+) of 600 splats change by up to ([0-9.]+)", line).groups()
    moved = (after.means - far.means).abs().amax(dim=1)
    assert moved.max() == pytest.approx(float(error), rel=0.05)
    assert int(count) == (moved > 1e-3).sum()
    far.means[0] = torch.tensor([1e8, 0.0, 0.0])
    with pytest.raises(InputError, match=r"a.spz strictly: positions of"):
        save_splats(far, tmp_path / "a.spz", strict=True)


@pytest.mark.parametrize("radius", [1e-4, 0.005, 0.3, 3.0, 40.0])
def test_spz_of_any_size(tmp_path, radius):
    before = splats(radius=radius)
    after, _ = written(before, tmp_path / "a.spz")
    assert (after.means - before.means).abs().max() < 5e-4 * radius


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("scales", 1e-6, r"scales outside \[4.5e-5, 378\] of 1 of 600 splats change by up to 44 times"),
        ("scales", 1000.0, r"scales outside .* of 1 of 600 splats change by up to 1.6 times"),
        ("sh", 4.0, r"colours of 1 of 600 splats change by up to 0.19 of \[0, 1\] when clipped"),
    ],
)
def test_spz_clips(tmp_path, field, value, words):
    bad = splats()
    getattr(bad, field).view(600, -1)[5, 0] = value
    _, said = written(bad, tmp_path / "a.spz")
    assert any(re.search(words, line) for line in said), said


def test_spz_clips_sh(tmp_path):
    bad = splats(sh_degree=1)
    bad.sh[7, 2, 1] = -1.5
    with pytest.warns(UserWarning, match=r"SH coefficients outside \[-1, 1\) of 1 of 600 splats change by up to 0.51 when clipped"):
        save_splats(bad, tmp_path / "a.spz")


# compressed.ply


def test_compressed_with_one_far(tmp_path):
    far = splats()
    far.means[0] = torch.tensor([2500.0, 0.0, 0.0])
    after, said = written(far, tmp_path / "a.compressed.ply")
    (line,) = said
    count, error = re.search(r"positions of (\d+) of 600 splats change by up to ([0-9.]+) .*lies far off", line).groups()
    near = after.means[after.means[:, 0] < 100].numpy()
    moved = np.abs(near[:, None] - far.means[1:].numpy()[None]).max(axis=2).min(axis=1)
    assert moved.max() < float(error) < 1
    assert (moved > 0.004).sum() < int(count) == 600 - 512  # it shares the last and smallest chunk; the other two are well
    with pytest.raises(InputError, match=r"strictly: positions of 88 of 600"):
        save_splats(far, tmp_path / "b.compressed.ply", strict=True)


def test_compressed_with_one_colour_far(tmp_path):
    bad = splats()
    bad.sh[5, 0, 1] = 100.0
    with pytest.warns(UserWarning, match=r"colours of \d+ of 600 splats change by up to 0.05"):
        save_splats(bad, tmp_path / "a.compressed.ply")


def test_morton_order_puts_the_far_ones_last():
    points = splats().means.numpy().copy()
    points[17] = (1e4, 0, 0)
    assert morton_order(points)[-1] == 17


# .splat and SOG


def test_splat_clips_colours(tmp_path):
    bad = splats()
    bad.sh[5, 0, 1] = 3.0
    after, said = written(bad, tmp_path / "a.splat")
    assert re.search(r"colours outside \[0, 1\] of 1 of 600 splats change by up to 0.35 when clipped", said[0])
    assert len(after) == 600


def test_sog_with_a_colour_and_a_scale_far_off(tmp_path):
    """They have levels of their own in the codebooks: nothing is lost, and nothing is said."""
    odd = splats(sh_degree=1)
    odd.sh[5, 0, 1], odd.scales[9, 2], odd.sh[11, 3, 0] = 1000.0, 1e-12, 50.0
    after, said = written(odd, tmp_path / "a.sog")
    assert said == []
    assert after.sh[:, 0].max() == pytest.approx(1000)
    assert after.sh[:, 1:].max() == pytest.approx(50)
    got, want = after.sh[:, 0].flatten().sort().values[:-1], odd.sh[:, 0].flatten().sort().values[:-1]
    assert (got - want).abs().max() < 0.01


def test_sog_of_a_small_object_with_one_far(tmp_path):
    odd = splats(radius=0.001)
    odd.means[3] = torch.tensor([0.0, 3000.0, 0.0])
    assert re.search(r"positions of \d+ of 600 splats change by up to 6\.?\d*e-05", written(odd, tmp_path / "a.sog")[1][0])


def test_a_palette_is_exact_while_it_suffices():
    vectors = np.random.default_rng(0).normal(size=(50, 9)).astype(np.float32)
    repeated = vectors[np.random.default_rng(1).integers(50, size=4000)]
    entries, labels = palette(repeated, 64)
    assert len(entries) == 50
    assert np.array_equal(entries[labels], repeated)


def test_a_palette_beats_chance():
    """Clusters of a k-d tree's groups: within 10 % of k-means over all vectors (scipy's, as many steps)."""
    from scipy.cluster.vq import kmeans2

    vectors = np.random.default_rng(0).normal(size=(3000, 9)).astype(np.float32)
    entries, labels = palette(vectors, 300)
    assert len(entries) <= 300
    assert labels.max() < len(entries)
    ours = np.square(vectors - entries[labels]).mean()
    centres, nearest = kmeans2(vectors, 300, iter=10, minit="points", rng=np.random.default_rng(0))
    assert ours < 1.1 * np.square(vectors - centres[nearest]).mean()
    chosen = vectors[:300]
    chance = np.square(vectors[:, None] - chosen[None]).mean(axis=2).min(axis=1).mean()
    assert ours < 0.85 * chance


def test_the_command_says_it_and_can_be_strict(tmp_path, capsys):
    from fsd_gs.export.command import main

    bad = splats()
    bad.scales[5, 0] = 1e-7
    save_splats(bad, tmp_path / "a.ply", target="raw")
    arguments = [str(tmp_path / "a.ply"), "--format", "spz", "--output", str(tmp_path / "out")]
    assert main([*arguments, "--strict"], make_rasterizer=None) == 2
    error = capsys.readouterr().err
    assert "error: cannot write" in error
    assert "scales outside [4.5e-5, 378] of 1 of 600" in error
    assert not list(tmp_path.glob("out/*"))
    assert main(arguments, make_rasterizer=None) == 0
    assert "warning: " in capsys.readouterr().err
