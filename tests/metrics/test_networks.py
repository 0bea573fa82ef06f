"""The Inception and LPIPS wrappers: what they feed a network and make of its answers; the libraries' own networks where installed.

No weights are downloaded: stand-in networks test the wrappers, and random weights in the real files' layout test the loaders.
"""

import sys
from pathlib import Path

import pytest
import torch

from fsd_gs.errors import BackendError, FileFormatError, InputError
from fsd_gs.metrics.distribution import fid, inception_score
from fsd_gs.metrics.image_sets import classify_images, embed_images
from fsd_gs.metrics.inception import WEIGHTS, InceptionFeatures
from fsd_gs.metrics.lpips import Lpips, lpips_diversity, view_distances
from fsd_gs.metrics.protocols import ImageClassifier, ImageEmbedder
from fsd_gs.metrics.weight_files import WeightFile


def pictures(*shape: int, size: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, 3, size, size, generator=torch.Generator().manual_seed(seed))


def importable(name: str) -> bool:
    try:
        __import__(name)
    except Exception:  # torchvision next to another torch fails with a RuntimeError
        return False
    return True


class TinyInception(torch.nn.Module):
    """uint8 [B, 3, 8, 8] → (20 features, 6 logits) in float64."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.features = torch.nn.Linear(192, 20, bias=False, dtype=torch.float64)
        self.classes = torch.nn.Linear(20, 6, bias=False, dtype=torch.float64)

    def forward(self, images):
        assert images.dtype == torch.uint8
        features = self.features((images.flatten(1).double() - 128) / 128).relu()
        return features, 5 * self.classes(features)


# --- Inception


def test_inception_satisfies_both_protocols_and_feeds_8_bit_levels():
    network = InceptionFeatures(TinyInception(), name="tiny")
    assert isinstance(network, ImageEmbedder)
    assert isinstance(network, ImageClassifier)
    levels = (pictures(4) * 255).round()
    expected = TinyInception()(levels.to(torch.uint8))
    torch.testing.assert_close(network.embed(levels / 255), expected[0])
    torch.testing.assert_close(network.embed((levels + 0.3).clamp(0, 255) / 255), expected[0])  # rounded, not truncated
    torch.testing.assert_close(network.embed(((levels - 0.3) / 255).clamp_min(0)), expected[0])
    torch.testing.assert_close(network.probabilities(levels / 255), expected[1].softmax(1))
    assert not network.embed(levels / 255).requires_grad


def test_fid_and_score_of_image_sets_are_those_of_torchmetrics():
    """From pixels to figures: our wrapper, stream and formulas against the library's metrics around the same network."""
    fid_library = pytest.importorskip("torchmetrics.image.fid")
    score_library = pytest.importorskip("torchmetrics.image.inception")

    class Part(torch.nn.Module):
        def __init__(self, index: int):
            super().__init__()
            self.network, self.index = TinyInception(), index

        def forward(self, images):
            return self.network(images)[self.index]

    real, fake = pictures(48), pictures(40, seed=1) ** 2
    levels = [(images * 255).round().to(torch.uint8) for images in (real, fake)]
    metric = fid_library.FrechetInceptionDistance(feature=Part(0), input_img_size=(3, 8, 8))
    metric.update(levels[0], real=True)
    metric.update(levels[1], real=False)
    score = score_library.InceptionScore(feature=Part(1), splits=1)
    score.update(levels[0])
    ours = InceptionFeatures(TinyInception())
    assert fid(embed_images(ours, real, 7), embed_images(ours, fake, 7)) == pytest.approx(metric.compute().item(), rel=1e-5)
    assert inception_score(classify_images(ours, real, 7)) == pytest.approx(score.compute()[0].item(), rel=1e-6)
    assert score.compute()[0] > 1.1


# --- LPIPS


def squared_difference(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (first - second).square().mean((1, 2, 3))


def test_pairs_and_matching_views_by_hand():
    levels = torch.tensor([[0.0, 0.0], [0.0, 0.5], [1.0, 0.5]])  # three assets of two flat views
    images = levels[:, :, None, None, None].expand(3, 2, 3, 4, 4)
    expected = torch.tensor([[0, 0.125, 0.625], [0.125, 0, 0.5], [0.625, 0.5, 0]]).double()
    torch.testing.assert_close(view_distances(images, squared_difference), expected)
    assert lpips_diversity(images, squared_difference) == pytest.approx((0.125 + 0.625 + 0.5) / 3)
    assert lpips_diversity(images[:1].expand(4, -1, -1, -1, -1), squared_difference) == 0


def test_lpips_networks_get_minus_one_to_one():
    seen = []

    def network(first, second):
        seen.extend([first, second])
        return squared_difference(first, second)[:, None, None, None]  # the shape that the library returns

    images, others = pictures(3, size=32), pictures(3, size=32, seed=1)
    distances = Lpips(network)(images, others)
    assert distances.shape == (3,)
    torch.testing.assert_close(seen[0], 2 * images - 1)
    torch.testing.assert_close(distances, 4 * squared_difference(images, others))


def test_bad_images_for_lpips():
    lpips = Lpips(squared_difference)
    with pytest.raises(InputError, match=r"LPIPS expects at least 32 pixels a side, got 8×8"):
        lpips(pictures(1), pictures(1))
    with pytest.raises(InputError, match=r"second: expected shape \[2, 3, 32, 32\], got \[2, 3, 40, 40\]"):
        lpips(pictures(2, size=32), pictures(2, size=40))
    with pytest.raises(InputError, match=r"images: expected at least two assets of at least one view, got 1 of 4"):
        lpips_diversity(pictures(1, 4), squared_difference)
    with pytest.raises(InputError, match=r"images: expected shape \[A, V, 3, H, W\], got \[4, 3, 8, 8\]"):
        lpips_diversity(pictures(4), squared_difference)
    with pytest.raises(InputError, match=r"trunk: unknown name 'vgg19'; did you mean 'vgg'\?"):
        Lpips.load("weights.pth", "vgg19")  # pyright: ignore


# --- weight files


class Code:
    """Something that unpickling would run."""

    def __reduce__(self):
        return print, ("this must not be printed",)


def test_missing_weights_say_which_file_and_where_from(tmp_path):
    with pytest.raises(FileFormatError, match=r"inception: no weights at .*nowhere\.pth; download https.*6726825d\.pth \(95 MB\) and give"):
        InceptionFeatures.load(tmp_path / "nowhere.pth")
    with pytest.raises(FileFormatError, match=r"lpips: no weights at .*; download https.*squeezenet1_1-b8a52dc0\.pth \(5 MB\)"):
        Lpips.load(tmp_path, "squeeze")


def test_files_with_code_or_other_content_are_refused(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.zeros(2), "code": Code()}, path)
    with pytest.raises(FileFormatError, match=r"is no PyTorch file of plain tensors"):
        InceptionFeatures.load(path)
    assert "must not" not in capsys.readouterr().out
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(FileFormatError, match=r"is no PyTorch file of plain tensors"):
        Lpips.load(path)
    torch.save([torch.zeros(2)], path)
    with pytest.raises(FileFormatError, match=r"holds a list, expected tensors by name"):
        InceptionFeatures.load(path)


def test_the_label_tells_official_weights_from_others(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"abc")  # sha256 ba7816bf…
    assert WeightFile("n", "u", "ba7816bf", 1).label(path) == ""
    assert WeightFile("n", "u", "deadbeef", 1).label(path) == " (other weights, sha256 ba7816bf)"


@pytest.mark.parametrize(("load", "library"), [(InceptionFeatures.load, "torch_fidelity"), (Lpips.load, "lpips")])
def test_a_missing_library_is_named(tmp_path, monkeypatch, load, library):
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.zeros(2)}, path)
    for module in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)  # what an import of an absent package meets
    with pytest.raises(BackendError, match=rf"pip install {library.replace('_', '-')}"):
        load(path)


# --- the real networks, with random weights


@pytest.mark.skipif(not importable("torch_fidelity"), reason="needs torch-fidelity")
def test_the_real_inception_is_that_of_torchmetrics(tmp_path, monkeypatch):
    import torch_fidelity.feature_extractor_inceptionv3 as library

    official = library.FeatureExtractorInceptionV3
    with monkeypatch.context() as patch:  # random weights: nothing to download, nothing to load
        patch.setattr(library, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr(official, "load_state_dict", lambda *args, **kwargs: None)
        torch.manual_seed(0)
        random = official("random", ["2048"])
    path = tmp_path / "weights.pth"
    torch.save(random.state_dict(), path)
    network = InceptionFeatures.load(path)
    assert "other weights" in network.name
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(2048, feature_extractor_weights_path=str(path), antialias=False)
    for images, real in ((pictures(3, size=64), True), (pictures(3, size=64, seed=1), False)):
        metric.update((images * 255).round().to(torch.uint8), real=real)
    features = [network.embed(pictures(3, size=64, seed=seed)) for seed in (0, 1)]
    assert fid(*features) == pytest.approx(metric.compute().item(), rel=1e-3)
    assert network.probabilities(pictures(2, size=64)).shape == (2, 1008)
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(FileFormatError, match="holds other tensors than this network's; download"):
        InceptionFeatures.load(path)
    assert WEIGHTS.sha256 in WEIGHTS.url


@pytest.mark.skipif(not importable("lpips"), reason="needs lpips and torchvision")
@pytest.mark.parametrize("trunk", ["alex", "squeeze"])  # vgg is the same code over 0.5 GB of weights
def test_the_real_lpips_is_that_of_torchmetrics(tmp_path, trunk):
    import torchvision
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    torch.manual_seed(0)
    name = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}[trunk]
    state = getattr(torchvision.models, name)(weights=None).state_dict()
    path: Path = tmp_path / "trunk.pth"
    torch.save(state, path)
    reference = _NoTrainLpips(net=trunk, pnet_rand=True)
    ours = Lpips.load(path, trunk)
    # The same trunk in both: torchmetrics' slices hold the same layers in the same order.
    own = dict(zip(reference.net.state_dict(), ours._network.net.state_dict().values(), strict=True))
    reference.net.load_state_dict(own)
    images, others = pictures(2, size=64), pictures(2, size=64, seed=1)
    torch.testing.assert_close(ours(images, others), reference(images, others, normalize=True).flatten(), atol=1e-6, rtol=1e-5)
    assert ours(images, images).abs().max() == 0
    torch.save({"features.0.weight": torch.zeros(2)}, path)
    with pytest.raises(FileFormatError, match="holds other tensors than this network's; download"):
        Lpips.load(path, trunk)
