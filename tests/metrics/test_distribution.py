"""FID, CROSS-FID and Inception Score against closed forms, hand-worked cases, scipy's matrix square root and torchmetrics."""

import math

import pytest
import torch

from fsd_gs.errors import InputError
from fsd_gs.metrics.distribution import (
    FeatureStatistics,
    ScoreStatistics,
    cross_fid,
    fid,
    frechet_distance,
    halves_of,
    inception_score,
    inception_scores,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(size: int, rank: int, seed: int = 0) -> torch.Tensor:
    root = normal(rank, size, seed=seed)
    return root.T @ root / rank


def zeros(size: int) -> torch.Tensor:
    return torch.zeros(size, dtype=torch.float64)


# --- the Fréchet distance of Gaussians


def test_equal_covariances_leave_the_distance_of_the_means():
    cov = covariance(5, 8)
    assert frechet_distance(torch.tensor([3.0, 0, 4, 0, 0]), cov, zeros(5), cov) == pytest.approx(25, rel=1e-12)


def test_commuting_covariances_have_a_closed_form():
    """Σ₁ = Q diag(a) Qᵀ, Σ₂ = Q diag(b) Qᵀ: d² = Σ (√a − √b)²."""
    a, b = torch.tensor([4.0, 1.0, 9.0, 0.0]).double(), torch.tensor([1.0, 16.0, 9.0, 25.0]).double()
    q = torch.linalg.qr(normal(4, 4)).Q
    assert frechet_distance(zeros(4), q @ a.diag() @ q.T, zeros(4), q @ b.diag() @ q.T) == pytest.approx(1 + 9 + 0 + 25, rel=1e-9)


@pytest.mark.parametrize("angle_deg", [0, 30, 60, 90])
def test_rank_one_covariances_have_a_closed_form(angle_deg):
    """Σ₁ = a uuᵀ, Σ₂ = b vvᵀ in 6 dimensions: d² = a + b − 2 √(ab) |u · v|. scipy's square root warns or fails here."""
    q = torch.linalg.qr(normal(6, 6, seed=3)).Q
    cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    u, v = q[0], cos * q[0] + sin * q[1]
    got = frechet_distance(zeros(6), 4 * torch.outer(u, u), zeros(6), 9 * torch.outer(v, v))
    assert got == pytest.approx(13 - 12 * abs(cos), rel=1e-12)


def test_a_point_is_at_the_total_variance_from_a_cloud():
    cov = covariance(4, 7)
    assert frechet_distance(zeros(4), torch.zeros(4, 4), zeros(4), cov) == pytest.approx(cov.trace().item())


@pytest.mark.parametrize("size", [1, 3, 24])
def test_against_the_matrix_square_root_of_scipy(size):
    scipy_linalg = pytest.importorskip("scipy.linalg")
    cov1, cov2 = covariance(size, 3 * size, seed=1), covariance(size, 4 * size, seed=2)
    mean1, mean2 = normal(size, seed=3), normal(size, seed=4)
    root = scipy_linalg.sqrtm((cov1 @ cov2).numpy())
    expected = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * float(root.real.trace())
    assert frechet_distance(mean1, cov1, mean2, cov2) == pytest.approx(expected.item(), rel=1e-9)


def test_the_distance_is_symmetric_and_knows_no_basis():
    (mean1, mean2), (cov1, cov2) = normal(2, 5), (covariance(5, 3, seed=1), covariance(5, 9, seed=2))
    q = torch.linalg.qr(normal(5, 5, seed=6)).Q
    distance = frechet_distance(mean1, cov1, mean2, cov2)
    assert frechet_distance(mean2, cov2, mean1, cov1) == pytest.approx(distance, rel=1e-10)
    assert frechet_distance(q @ mean1, q @ cov1 @ q.T, q @ mean2, q @ cov2 @ q.T) == pytest.approx(distance, rel=1e-9)


def test_covariances_accumulated_in_float32_are_fine():
    features = normal(10, 30).float() + 3  # rank 9 of 30: some eigenvalues come out negative
    cov = torch.cov(features.T)
    assert torch.linalg.eigvalsh(cov)[0] < 0
    assert frechet_distance(features.mean(0), cov, features.mean(0), cov) == pytest.approx(0, abs=1e-4)


def test_what_is_no_covariance_is_refused():
    good, mean = torch.eye(3), torch.zeros(3)
    with pytest.raises(InputError, match=r"cov2: expected a covariance \(no negative eigenvalues\), got -1"):
        frechet_distance(mean, good, mean, torch.diag(torch.tensor([1.0, 2.0, -1.0])))
    with pytest.raises(InputError, match=r"cov1: expected a symmetric matrix, got entries that differ by 1"):
        frechet_distance(mean, good + torch.tensor([[0.0, 1, 0], [0, 0, 0], [0, 0, 0]]), mean, good)
    with pytest.raises(InputError, match=r"mean2: expected shape \[3\], got \[4\]"):
        frechet_distance(mean, good, torch.zeros(4), torch.eye(4))
    with pytest.raises(InputError, match=r"mean1: expected finite values, got NaN or infinity"):
        frechet_distance(mean / 0, good, mean, good)


# --- FID of sets


@pytest.mark.parametrize(("count", "size"), [(40, 6), (12, 30), (2, 5), (7, 7)])
def test_fid_is_the_distance_of_the_fitted_gaussians(count, size):
    """More images than features and fewer: both branches of the factorisation."""
    a, b = normal(count, size, seed=1), 2 * normal(count + 3, size, seed=2) + 1
    expected = frechet_distance(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    assert fid(a, b) == pytest.approx(expected, rel=1e-9)


def test_two_images_against_two_by_hand():
    """Σ = ½ d dᵀ for a set {x, x + d}: d² = |Δμ|² + ½|d|² + ½|e|² − |d · e|."""
    a = torch.tensor([[0.0, 0, 0], [2, 0, 0]])
    b = torch.tensor([[1.0, 5, 0], [1 + 3, 5 + 4, 0]])
    mean_shift = (2.5 - 1) ** 2 + 7**2
    assert fid(a, b) == pytest.approx(mean_shift + 2 + 12.5 - 6)


def test_identical_sets_are_at_zero():
    for features in (normal(48, 200), normal(300, 8), normal(2, 5), torch.ones(3, 4)):
        assert fid(features, features) == pytest.approx(0, abs=1e-9)
        assert fid(features, features.flip(0)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("count", "size", "tolerance"), [(200, 12, 1e-6), (48, 64, 1e-4)])
def test_fid_is_that_of_torchmetrics(count, size, tolerance):
    """A stand-in for the Inception: fixed random features. Rank-deficient covariances cost torchmetrics' eigenvalues some digits."""
    library = pytest.importorskip("torchmetrics.image.fid")

    class Features(torch.nn.Module):
        num_features = size

        def forward(self, images):
            return (images.flatten(1).double() @ normal(3 * 16, size, seed=9)).sin()

    images_a, images_b = normal(count, 3, 4, 4, seed=1), 1.5 * normal(count, 3, 4, 4, seed=2) + 0.2
    metric = library.FrechetInceptionDistance(feature=Features(), normalize=True)
    for batch in images_a.split(17):
        metric.update(batch, real=True)
    metric.update(images_b, real=False)
    assert fid(Features()(images_a), Features()(images_b)) == pytest.approx(metric.compute().item(), rel=tolerance)


def test_small_sets_are_biased_upwards():
    """Two halves of the *same* distribution: the figure falls about as 1/N, so only equal counts compare."""
    small, large = (fid(normal(n, 16, seed=1), normal(n, 16, seed=2)) for n in (48, 480))
    assert 5 * large < small


def test_bad_feature_sets():
    with pytest.raises(InputError, match=r"features_b: expected shape \[M, 4\], got \[6, 5\]"):
        fid(normal(6, 4), normal(6, 5))
    with pytest.raises(InputError, match=r"features_a: expected at least 2 images .* got 1"):
        fid(normal(1, 4), normal(6, 4))
    with pytest.raises(InputError, match=r"features_b: expected finite values, got NaN"):
        fid(normal(6, 4), torch.full((6, 4), float("nan")))


# --- CROSS-FID


def test_cross_fid_pools_the_seeds_of_each_half():
    features = {seed: normal(24, 10, seed=seed) + seed for seed in (3, 1, 0, 2)}  # in any order
    expected = fid(torch.cat([features[0], features[1]]), torch.cat([features[2], features[3]]))
    assert cross_fid(features) == expected
    assert cross_fid(features, ((2, 3), (0, 1))) == pytest.approx(expected)
    assert cross_fid(features, ((0, 2), (1, 3))) < expected  # these halves overlap


def test_cross_fid_of_equal_and_of_different_assets():
    view = normal(24, 40)
    assert cross_fid(dict.fromkeys(range(4), view)) == pytest.approx(0, abs=1e-9)
    near, far = ({seed: view + scale * normal(1, 40, seed=10 + seed) for seed in range(4)} for scale in (0.1, 1.0))
    assert 0 < cross_fid(near) < cross_fid(far)


def test_two_seeds_against_each_other():
    a, b = normal(24, 10, seed=1), normal(24, 10, seed=2)
    assert cross_fid({7: a, 12: b}, halves_of([12, 7])) == fid(a, b)
    assert halves_of([3, 0, 2, 1]) == ((0, 1), (2, 3))


@pytest.mark.parametrize(
    ("seeds", "halves", "message"),
    [
        ({}, ((0,), (1,)), r"at least two seeds of a prompt, got 0"),
        ([0], ((0,), (1,)), r"at least two seeds of a prompt, got 1"),
        ([0, 1, 2], ((0, 1), (2, 3)), r"for seeds \[0, 1, 2\]; missing: \[3\]"),
        ([0, 1, 2, 3, 4], ((0, 1), (2, 3)), r"left out: \[4\]"),
        ([0, 1, 2], ((0, 1), (2,)), r"equally many different seeds, got \[0, 1\] and \[2\]"),
        ([0, 1], ((0, 1), (1, 0)), r"equally many different seeds"),
        ([0, 1], ((), ()), r"equally many different seeds"),
    ],
)
def test_no_other_protocol_slips_in(seeds, halves, message):
    with pytest.raises(InputError, match=message):
        cross_fid({seed: normal(4, 3, seed=seed) for seed in seeds}, halves)


def test_unequal_views_and_sizes_are_named():
    features = {seed: normal(24, 5, seed=seed) for seed in range(4)}
    with pytest.raises(InputError, match=r"features of seed 2: expected 24 views as seed 0 has, got 23"):
        cross_fid({**features, 2: features[2][:23]})
    with pytest.raises(InputError, match=r"features of seed 3: expected shape \[24, 5\], got \[24, 6\]"):
        cross_fid({**features, 3: normal(24, 6)})
    with pytest.raises(InputError, match=r"features of seed 0: expected shape \[V, D\], got \[24\]"):
        cross_fid({**features, 0: normal(24)})
    with pytest.raises(InputError, match=r"features of seed 1: expected finite values"):
        cross_fid({**features, 1: torch.full((24, 5), math.inf)})
    with pytest.raises(InputError, match=r"seeds: expected an even number of different seeds, at least 2, got \[0, 1, 2\]"):
        halves_of([0, 1, 2])
    with pytest.raises(InputError, match=r"seeds: expected an even number of different seeds, at least 2, got \[\]"):
        halves_of([])


# --- the Inception Score


def test_scores_by_hand():
    assert inception_score(torch.eye(5)) == pytest.approx(5)  # sure and all different: the most
    assert inception_score(torch.full((7, 4), 0.25)) == 1  # unsure
    assert inception_score(torch.eye(4)[:1].expand(6, 4)) == 1  # sure, all alike
    assert inception_score(torch.tensor([[0.9, 0.1], [0.1, 0.9]])) == pytest.approx(2 * 0.9**0.9 * 0.1**0.1, rel=1e-6)


def test_the_score_is_that_of_torchmetrics():
    inception = pytest.importorskip("torchmetrics.image.inception")

    class Logits(torch.nn.Module):
        def forward(self, images):
            return images.flatten(1) @ normal(12, 9, seed=4)

    images = normal(50, 3, 2, 2)
    metric = inception.InceptionScore(feature=Logits(), splits=1)
    metric.update(images[:20])
    metric.update(images[20:])
    assert inception_score(Logits()(images).softmax(1)) == pytest.approx(metric.compute()[0].item(), rel=1e-9)


def test_splits_are_consecutive_parts():
    probabilities = normal(10, 6).softmax(1)
    parts = [probabilities[:3], probabilities[3:6], probabilities[6:]]  # as in Salimans et al.: i N // splits
    assert inception_scores(probabilities, 3).tolist() == pytest.approx([inception_score(part) for part in parts])
    assert inception_score(probabilities, 3) == pytest.approx(sum(map(inception_score, parts)) / 3)
    assert inception_score(probabilities, 10) == 1  # one image alone has no diversity


def test_bad_probabilities():
    with pytest.raises(InputError, match=r"are these logits\? \(use softmax\)"):
        inception_score(normal(5, 3))
    with pytest.raises(InputError, match=r"are these logits"):
        inception_score(torch.full((5, 3), 0.5))
    with pytest.raises(InputError, match=r"splits: expected 1 to 5 \(the number of images\), got 6"):
        inception_score(normal(5, 3).softmax(1), 6)
    with pytest.raises(InputError, match=r"probabilities: expected at least one image and one class, got \[0, 3\]"):
        inception_score(torch.zeros(0, 3))


# --- streams


def test_a_stream_gives_the_statistics_of_the_whole():
    features = normal(53, 7) + 10
    stream = FeatureStatistics(7)
    for batch in features.split([1, 20, 0, 30, 2]):
        stream.update(batch)
    mean, cov = stream.compute()
    torch.testing.assert_close(mean, features.mean(0))
    torch.testing.assert_close(cov, torch.cov(features.T))


def test_merged_streams_are_one():
    features = normal(30, 4)
    left, right, empty = FeatureStatistics(4), FeatureStatistics(4), FeatureStatistics(4)
    left.update(features[:9])
    right.update(features[9:])
    left.merge(right)
    left.merge(empty)
    empty.merge(left)
    for stream in (left, empty):
        assert stream.count == 30
        torch.testing.assert_close(stream.compute()[1], torch.cov(features.T))


def test_a_stream_far_from_zero_keeps_its_digits():
    """At 1e7 ± 1 the textbook sum of squares has lost all but two digits; the update about the running mean has not."""
    features = normal(200, 3) + 1e7
    stream = FeatureStatistics(3)
    for batch in features.split(8):
        stream.update(batch)
    expected = torch.cov((features - 1e7).T)
    torch.testing.assert_close(stream.compute()[1], expected, rtol=1e-6, atol=1e-6)
    textbook = (features.T @ features - 200 * torch.outer(features.mean(0), features.mean(0))) / 199
    assert (textbook - expected).abs().max() > 1e-3


def test_a_stream_of_probabilities_gives_the_score():
    probabilities = torch.cat([normal(20, 5).softmax(1), torch.eye(5).double()])
    stream = ScoreStatistics(5)
    for batch in probabilities.split(7):
        stream.update(batch)
    assert stream.compute() == pytest.approx(inception_score(probabilities), rel=1e-12)


def test_streams_say_what_is_missing():
    stream = FeatureStatistics(3)
    stream.update(normal(1, 3))
    with pytest.raises(InputError, match=r"features: expected at least 2 images .* got 1"):
        stream.compute()
    with pytest.raises(InputError, match=r"features: expected shape \[B, 3\], got \[2, 4\]"):
        stream.update(normal(2, 4))
    with pytest.raises(InputError, match="other: expected statistics of 3 features, got 4"):
        stream.merge(FeatureStatistics(4))
    with pytest.raises(InputError, match="probabilities: expected at least one image, got none"):
        ScoreStatistics(4).compute()
