"""Sets of images as streams: order, batches, mixed resolutions, files."""

import pytest
import torch

from fsd_gs.errors import FileFormatError, InputError
from fsd_gs.metrics.image_sets import check_images, classify_images, embed_images, in_batches, read_images, score_images


class Mean:
    """A network one can check by hand: the mean colour, also as probabilities."""

    name = "mean"

    def __init__(self):
        self.batches = []

    def embed(self, images):
        self.batches.append(len(images))
        return images.mean((2, 3)).requires_grad_()

    def probabilities(self, images):
        return self.embed(images).softmax(1)

    def alignment(self, images, prompt):
        return self.embed(images).sum(1) * len(prompt)


def pictures(count: int, size: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_singles_and_batches_are_one_stream_in_order():
    images = pictures(7)
    batches = list(in_batches([images[0], images[1:4], images[4], images[5:]], batch_size=3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    torch.testing.assert_close(torch.cat(batches), images)


def test_networks_see_batches_and_their_answers_keep_the_order():
    images, network = pictures(7), Mean()
    features = embed_images(network, (image for image in images), batch_size=4)
    assert network.batches == [4, 3]
    assert not features.requires_grad
    torch.testing.assert_close(features, images.mean((2, 3)))
    torch.testing.assert_close(classify_images(network, images, 2), images.mean((2, 3)).softmax(1))
    torch.testing.assert_close(score_images(network, images, "four"), 4 * images.mean((2, 3)).sum(1))


def test_nothing_is_read_ahead():
    def images():
        yield pictures(2)
        raise AssertionError("the second asset was rendered too early")

    assert len(next(in_batches(images(), batch_size=2))) == 2


def test_bad_sets():
    with pytest.raises(InputError, match=r"expected one resolution, got 4×4 and 6×6; render them again at one size"):
        list(in_batches([pictures(2), pictures(1, size=6)]))
    with pytest.raises(InputError, match=r"expected at least one image, got an empty set"):
        embed_images(Mean(), [])
    with pytest.raises(InputError, match=r"batch_size: expected at least 1, got 0"):
        list(in_batches([pictures(1)], batch_size=0))
    with pytest.raises(InputError, match=r"images: expected shape \[B, 3, H, W\], got \[1, 4, 4\]"):
        list(in_batches([torch.zeros(4, 4)]))
    with pytest.raises(InputError, match=r"images: expected at least one image of at least one pixel, got \[0, 3, 4, 4\]"):
        check_images(torch.zeros(0, 3, 4, 4))


def test_rounding_beyond_the_range_is_clamped():
    assert check_images(torch.full((1, 3, 2, 2), 1.0005)).max() == 1
    with pytest.raises(InputError, match=r"expected finite values in \[0, 1\], got 1.1 to 1.1"):
        check_images(torch.full((1, 3, 2, 2), 1.1))


def test_files_come_back_as_they_were_and_transparency_is_white(tmp_path):
    from PIL import Image

    levels = (pictures(2, size=5) * 255).round().to(torch.uint8)
    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    for path, image in zip(paths, levels, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    Image.new("RGBA", (5, 5), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    *opaque, clear = read_images([*paths, tmp_path / "clear.png"])
    torch.testing.assert_close(torch.stack(opaque), levels / 255)
    assert clear.min() == 1
    (tmp_path / "text.png").write_text("no image")
    for name in ("text.png", "nowhere.png"):
        with pytest.raises(FileFormatError, match=rf"{name} is missing or no image"):
            list(read_images([tmp_path / name]))
