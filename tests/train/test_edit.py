"""Edits and refinements: what may change, what is held, where the path of times is entered, and that the original stays."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "campaign"))
from stub_prior import TINY, GreenPrior, tiny

import fsd_gs
from fsd_gs.cli import main
from fsd_gs.config import load_config
from fsd_gs.core.cameras import evaluation_orbit
from fsd_gs.errors import ConfigError, FileFormatError, InputError
from fsd_gs.export.formats import export
from fsd_gs.guidance.settings import ScheduleSettings
from fsd_gs.io import file_sha256
from fsd_gs.metrics.similarity import silhouette_iou
from fsd_gs.render import make_rasterizer, render_frames
from fsd_gs.splats.colour_floor import ColourFloor
from fsd_gs.splats.initialize import ball
from fsd_gs.splats.parameters import from_gaussians
from fsd_gs.splats.pull import Pull, kept_splats
from fsd_gs.splats.settings import PullSettings
from fsd_gs.train import runs
from fsd_gs.train.asset import make_asset
from fsd_gs.train.build import initial_splats
from fsd_gs.train.edit import PULL, STRENGTH, beside, edit_settings, entered, put_back, refine_settings
from fsd_gs.train.edit_command import make_edit_parser


class Fine(GreenPrior):
    latent_shape = (3, 32, 32)
    image_size = 32


QUICK = [*TINY, "outputs.turntable_frames=0", "outputs.preview_every=0"]


def red_ball(count: int = 200, seed: int = 0):
    splats = ball(count, 0.5, torch.Generator().manual_seed(seed), opacity=0.9)
    return replace(splats, sh=torch.tensor([1.2, -1.2, -1.2]).expand(count, 1, 3).clone())


@pytest.fixture
def red_file(tmp_path):
    fsd_gs.save_splats(red_ball(), tmp_path / "red.ply")
    return tmp_path / "red.ply"


def edited(file, output, **options):
    overrides = [*QUICK, f"output={output}", *options.pop("overrides", [])]
    config = edit_settings(file, "a green egg", overrides=overrides, **options)
    return config, fsd_gs.load_splats(make_asset(config, GreenPrior()).folder / runs.SPLATS)


# -- what is held ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".ply", ".spz", ".sog", ".glb"])
def test_another_colour_and_the_same_shape_from_any_file(tmp_path, suffix):
    """Red becomes greener in every step: nothing else of the prior's wish, green everywhere, may happen to the shape."""
    file = tmp_path / f"red{suffix}"
    export(red_ball(), file, {".glb": "splat-glb"}.get(suffix, suffix[1:]))
    digest = file_sha256(file)
    config, after = edited(file, tmp_path / "out", overrides=["steps=120"])
    before = initial_splats(config)
    rgb = [splats.sh[:, 0].mean(dim=0) for splats in (before, after)]
    assert rgb[0][1] < rgb[0][0] - 2  # red
    assert rgb[1][1] > rgb[1][0]  # green
    cameras, rasterizer = evaluation_orbit(4, distance=2.2, fov_y_deg=49.1, width=48), make_rasterizer("cpu")
    alphas = [render_frames(rasterizer, splats, cameras).alpha for splats in (before, after)]
    assert silhouette_iou(*alphas) >= 0.9
    assert file_sha256(file) == digest


def test_kept_splats_keep_their_bits(tmp_path, red_file):
    kept = np.arange(200) % 3 == 0
    np.save(tmp_path / "mask.npy", kept)
    config, after = edited(red_file, tmp_path / "out", keep=tmp_path / "mask.npy", region=(0.0, 0.0, 0.0, 0.4))
    before = initial_splats(config)
    free = ~torch.from_numpy(kept) & (before.means.norm(dim=1) <= 0.4)
    assert 0 < int(free.sum()) < 200
    moved = (after.sh != before.sh).flatten(1).any(dim=1) | (after.means != before.means).any(dim=1)
    assert not bool((moved & ~free).any())
    assert int(moved.sum()) > 0.5 * int(free.sum())  # the others are hidden behind them


def test_more_pull_moves_less(tmp_path, red_file):
    def distance(weight):
        config, after = edited(red_file, tmp_path / f"out-{weight}", pull=weight, overrides=["steps=60"])
        return float((after.means - initial_splats(config).means).norm(dim=1).mean())

    assert distance(0.3) < 0.5 * distance(0.0)


def test_a_step_takes_its_share_of_the_way_back():
    original = from_gaussians(red_ball(5))
    params = from_gaussians(replace(red_ball(5), means=red_ball(5).means + 0.1))
    fixed = {name: value.detach() for name, value in original.items()}
    Pull(fixed, shape=0.25)(params)
    torch.testing.assert_close(params["means"].detach(), fixed["means"] + 0.075)
    for name in ("scales", "quats", "opacities", "sh0"):
        assert torch.equal(params[name], original[name])


def test_what_the_rasterizer_cuts_off_can_be_coloured_again(tmp_path):
    """A channel below 0 has no gradient: without the floor, red that was stored so stays without green for ever."""
    dark = replace(red_ball(), sh=torch.tensor([1.2, -2.5, -2.5]).expand(200, 1, 3).clone())
    fsd_gs.save_splats(dark, tmp_path / "dark.ply")
    green = {}
    for floor in (None, 0.0):
        words = ["steps=40", *([] if floor is None else [f"regularize.colour_floor={floor}"])]
        _, after = edited(tmp_path / "dark.ply", tmp_path / f"out-{floor}", overrides=words)
        green[floor] = after.sh[:, 0, 1]
    assert bool((green[0.0] == -2.5).all())
    assert float(green[None].quantile(0.8)) > -1.0


def test_the_floor_leaves_kept_splats_alone():
    params = from_gaussians(replace(red_ball(4), sh=torch.tensor([1.0, -2.5, -1.0]).expand(4, 1, 3).clone()))
    original = {name: value.detach().clone() for name, value in params.items()}
    kept = torch.tensor([True, False, False, True])
    ColourFloor(0.1, kept)(params)
    assert torch.equal(params["sh0"][kept], original["sh0"][kept])
    torch.testing.assert_close(0.5 + 0.28209479 * params["sh0"][~kept, 0], torch.tensor([[0.7820948, 0.1, 0.2179052]] * 2))


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (np.ones(199, bool), r"pull.keep: .*mask.npy: expected 200 truth values, .* got bool \[199\]"),
        (np.array(["x"] * 200), "pull.keep: .*expected 200 truth values"),
        (np.array([None] * 200), "pull.keep: .*expected a .npy"),
        (np.ones(200), "no splat is left that may change"),
    ],
)
def test_masks_that_do_not_fit(tmp_path, red_file, mask, says):
    np.save(tmp_path / "mask.npy", mask, allow_pickle=True)
    with pytest.raises((FileFormatError, InputError), match=says):
        kept_splats(PullSettings(keep=str(tmp_path / "mask.npy")), red_ball().means)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["pull.shape=1"], "^pull.shape: a pull .* needs splats.init=FILE and densify.kind=none, got ball and percentile"),
        (["pull.region=[0, 0, 0]"], "pull.region: expected x, y, z and a radius"),
    ],
)
def test_pulls_that_cannot_be(overrides, says):
    with pytest.raises(ConfigError, match=says):
        load_config([], ["prompt=x", *overrides])


# -- where it begins -------------------------------------------------------------------------------------------------------


def times(schedule, steps=101):
    built = schedule.build(steps, 0)
    return [float(built(step)) for step in range(steps)]


def test_the_path_is_entered_at_the_share_of_its_times():
    assert times(entered(ScheduleSettings(), 0.5))[::100] == pytest.approx([0.69, 0.4])
    assert entered(ScheduleSettings(), 1.0) == ScheduleSettings()
    path = ScheduleSettings(kind="piecewise", progress=[0.0, 0.5, 1.0], values=[0.9, 0.5, 0.1])
    assert times(entered(path, 0.25))[::100] == pytest.approx([0.3, 0.1])
    assert entered(path, 0.75).progress == pytest.approx([0.0, 1 / 3, 1.0])  # the bend is where it was
    for strength in (0.0, 1.1, float("nan")):
        with pytest.raises(InputError, match="strength: expected a number above 0"):
            entered(path, strength)


def test_an_asset_elsewhere_is_fitted_and_put_back(tmp_path):
    splats = red_ball()
    far = replace(splats, means=splats.means * 30 + torch.tensor([100.0, 0.0, -7.0]), scales=splats.scales * 30)
    fsd_gs.save_splats(far, tmp_path / "far.ply")
    config = edit_settings(tmp_path / "far.ply", "x", region=(100.0, 0.0, -7.0, 9.0), overrides=QUICK)
    start = initial_splats(config)
    assert float(start.means.norm(dim=1).amax()) == pytest.approx(config.splats.radius, rel=1e-4)
    inside = (far.means - torch.tensor([100.0, 0.0, -7.0])).norm(dim=1) <= 9
    assert torch.equal(~kept_splats(config.pull, start.means), inside)  # the same splats in both worlds
    back = put_back(start, config)
    torch.testing.assert_close(back.means, far.means, atol=1e-3, rtol=0)
    torch.testing.assert_close(back.scales, far.scales, rtol=1e-4, atol=0)


def test_what_the_user_says_wins(red_file):
    config = edit_settings(red_file, "x", strength=0.6, overrides=["schedule.end=0.2", "rates.means=0.5", "pull.colour=0.3"])
    assert (round(config.schedule.start, 6), config.schedule.end, config.rates.means, config.pull.colour, config.pull.shape) == (
        0.668,
        0.2,
        0.5,
        0.3,
        0.05,
    )


def test_what_is_no_asset(tmp_path, capsys):
    assert main(["edit", str(tmp_path / "none.ply"), "a blue chair"]) == 2
    assert "none.ply" in capsys.readouterr().err
    fsd_gs.save_splats(red_ball(), tmp_path / "red.ply")
    parsed = make_edit_parser("edit").parse_args(["red.ply", "a blue chair"])
    assert (parsed.strength, parsed.pull) == (STRENGTH, PULL)
    assert main(["edit", str(tmp_path / "red.ply"), "a blue chair", "--region", "1,2"]) == 2
    assert "--region: expected x,y,z,radius" in capsys.readouterr().err
    assert main(["refine", str(tmp_path)]) == 2
    assert "no run here" in capsys.readouterr().err


# -- refine ----------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_refinement_stands_beside_its_original(tmp_path):
    folder = make_asset(tiny(tmp_path), GreenPrior()).folder
    before = {path.name: file_sha256(path) for path in folder.iterdir() if path.is_file()}
    config, place = refine_settings(folder, overrides=["densify.every=2", "render.sizes=[16]"])
    assert config.render.sizes == [16]
    config, _ = refine_settings(folder, overrides=["densify.every=2"])
    assert (config.render.sizes, config.schedule.start, config.seed, config.densify.cap) == ([32], 0.69, 0, 160)
    assert place == folder.parent / "seed-0000-refined"
    outcome = make_asset(config, Fine(), place)
    assert outcome.state == "finished"
    assert {path.name: file_sha256(path) for path in folder.iterdir() if path.is_file()} == before
    assert beside(folder).name == beside(place).name == "seed-0000-refined-2"
    (folder / runs.SPLATS).unlink()
    with pytest.raises(FileFormatError, match="is not finished"):
        refine_settings(folder)


def test_an_edit_never_stands_in_the_place_of_its_original(tmp_path):
    folder = make_asset(tiny(tmp_path), GreenPrior()).folder
    with pytest.raises(InputError, match="would take the place of its original"):
        edit_settings(folder / runs.SPLATS, "a green egg", overrides=[*QUICK, f"output={tmp_path}", "overwrite=true"])
