"""Videos: what is written plays back, and what cannot be written is one line with the old file intact."""

import os
import resource
import subprocess
import sys

import av
import numpy as np
import pytest
import torch
from export_scenes import random_gaussians

from fsd_gs.config import load_config
from fsd_gs.errors import BackendError, InputError, OutputError, VideoError
from fsd_gs.export import video
from fsd_gs.export.command import main as export_main
from fsd_gs.export.ply import save_ply
from fsd_gs.export.video import require_encoder, save_mp4
from fsd_gs.render import make_rasterizer
from fsd_gs.train import result as result_module
from fsd_gs.train.result import Result


def frames_of(count=4, height=64, width=48):
    """A blue bar that walks over red."""
    frames = np.full((count, height, width, 3), (200, 30, 30), np.uint8)
    for index, frame in enumerate(frames):
        frame[:, 8 * index : 8 * index + 16] = (20, 60, 220)
    return list(frames)


def noise_frames(count=24, size=64):
    return list(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8))


def read_back(path):
    with av.open(str(path)) as container:
        return container.streams.video[0], [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], container.metadata


def test_plays_back_with_its_colours_rate_and_tags(tmp_path):
    save_mp4(frames_of(), tmp_path / "a.mp4", fps=5, metadata={"title": "a réd chair", "comment": "seed 3"})
    stream, frames, metadata = read_back(tmp_path / "a.mp4")
    assert (stream.codec_context.name, stream.average_rate, stream.pix_fmt) == ("h264", 5, "yuv420p")
    assert len(frames) == 4
    for before, after in zip(frames_of(), frames, strict=True):
        assert np.abs(before.astype(int) - after).mean() < 3
    assert (metadata["title"], metadata["comment"]) == ("a réd chair", "seed 3")
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # the index comes first


@pytest.mark.parametrize(("height", "width"), [(33, 33), (32, 33), (63, 61), (2, 2)])
def test_odd_sizes_are_padded_by_one_and_said(tmp_path, caplog, height, width):
    save_mp4(frames_of(2, height, width), tmp_path / "a.mp4", fps=4)
    _, frames, _ = read_back(tmp_path / "a.mp4")
    even = (height + height % 2, width + width % 2, 3)
    assert frames[0].shape == even
    said = [record.message for record in caplog.records]
    if even[:2] == (height, width):
        assert said == []
    else:
        assert len(said) == 1
        assert f"{even[1]} × {even[0]} pixels, padded from {width} × {height}" in said[0]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.99])
def test_a_file_limit_is_one_line_and_the_old_file_stays(tmp_path, share):
    save_mp4(noise_frames(), tmp_path / "whole.mp4", fps=4)
    limit = int(share * (tmp_path / "whole.mp4").stat().st_size)
    save_mp4(frames_of(), tmp_path / "a.mp4", fps=4)
    before, usual = (tmp_path / "a.mp4").read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, usual[1]))
    try:
        with pytest.raises(OutputError, match=r"^cannot write .*a\.mp4: a file may not grow that large there"):
            save_mp4(noise_frames(), tmp_path / "a.mp4", fps=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "whole.mp4"]


def test_bad_frames_leave_the_old_file(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"old")
    with pytest.raises(InputError, match="frames: expected at least one"):
        save_mp4([], tmp_path / "a.mp4", fps=4)
    with pytest.raises(InputError, match="frames: expected one size"):
        save_mp4([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)], tmp_path / "a.mp4", fps=4)
    assert (tmp_path / "a.mp4").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_without_the_library_or_its_encoder(tmp_path, monkeypatch, capsys):
    assert "libx264" in require_encoder()
    save_ply(random_gaussians(20), tmp_path / "a.ply")
    monkeypatch.setattr(video, "ENCODER", "libnothing")
    with pytest.raises(BackendError, match=r"no H\.264 encoder \(libnothing\): pip install .*; gif and png need no encoder"):
        save_mp4(frames_of(), tmp_path / "a.mp4", fps=4)
    monkeypatch.setitem(sys.modules, "av", None)
    words = [str(tmp_path / "a.ply"), "--format", "mp4", "--size", "32", "--frames", "2", "--output", str(tmp_path / "a.mp4")]
    assert export_main(words, make_rasterizer=lambda: make_rasterizer("cpu")) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert "pip install av; gif and png need no encoder" in error[0]
    assert not (tmp_path / "a.mp4").exists()


def test_a_run_keeps_its_splats_when_the_video_fails(tmp_path, monkeypatch):
    def full_disk(frames, path, *, fps, metadata=None):
        raise OutputError(f"cannot write {path}: no space left on the disk")

    monkeypatch.setattr(result_module, "save_mp4", full_disk)
    config = load_config([], ["prompt=a red chair", "outputs.turntable_frames=2", "outputs.turntable_size=16"])
    result = Result(random_gaussians(50), config, make_rasterizer("cpu", torch.device("cpu")))
    with pytest.raises(VideoError, match=r"^the splats are written \(.*splats\.ply\), but a video is not: cannot write .*turntable\.mp4"):
        result.save(tmp_path / "run")
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"config.yaml", "preview.png", "splats.ply"}


TRAIN = """
import sys
from fsd_gs.export import video
video.ENCODER = "libnothing"
from fsd_gs.cli import guarded, train
sys.exit(guarded(train, sys.argv[1:], "train.py"))
"""


@pytest.mark.long
def test_training_without_an_encoder_ends_with_splats_one_line_and_status_2(tmp_path):
    words = ["prompt=a red chair", "steps=2", "splats.count=50", "densify.kind=none", "cameras.views=4", "render.sizes=[16]", "count=2"]
    words += ["render.size_at=[0.0]", "outputs.turntable_frames=2", "outputs.turntable_size=16", "reseed=0", f"output={tmp_path}"]
    done = subprocess.run([sys.executable, "-c", TRAIN, *words], capture_output=True, text=True, timeout=300)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2, done.stderr
    assert len(errors) == 2, done.stderr  # one an asset: the set goes on
    assert all("the splats are written" in line and "gif and png need no encoder" in line for line in errors)
    assert {p.parent.name for p in tmp_path.glob("*/*/splats.ply")} == {"seed-0000", "seed-0001"}
    assert list(tmp_path.glob("*/gallery.html"))
