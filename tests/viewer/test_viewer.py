"""The viewer without a browser: server, conversions to viser, server-side pictures, filters, the live observer, files."""

import math
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from export_scenes import SH_C0, egg, random_gaussians
from PIL import Image

from fsd_gs.config import load_config
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.quaternions import matrix_from_quat
from fsd_gs.errors import BackendError, FileFormatError, InputError
from fsd_gs.export.formats import EXPORTERS, ExportOptions, load_splats
from fsd_gs.export.pictures import save_png
from fsd_gs.export.ply import save_ply
from fsd_gs.export.timelapse import preview_files, timelapse_frames, write_timelapse
from fsd_gs.render import make_rasterizer
from fsd_gs.train import command as train_command
from fsd_gs.train import runs
from fsd_gs.train.api import generate
from fsd_gs.viewer import command
from fsd_gs.viewer.gallery import write_gallery
from fsd_gs.viewer.inspector import Inspector, exported
from fsd_gs.viewer.latest import LatestWins
from fsd_gs.viewer.live import LiveSettings, LiveViewer
from fsd_gs.viewer.notes import Notes
from fsd_gs.viewer.painter import View, camera_of, paint
from fsd_gs.viewer.panels import PANELS
from fsd_gs.viewer.panels.asset import AssetPanel, count_line
from fsd_gs.viewer.panels.base import INSPECT, LIVE, START, Panel, panels_of
from fsd_gs.viewer.panels.export import ExportPanel
from fsd_gs.viewer.panels.filter import Filter, FilterPanel, apply_filter
from fsd_gs.viewer.panels.loss import LossPanel
from fsd_gs.viewer.panels.pictures import views_picture
from fsd_gs.viewer.panels.run import RunPanel
from fsd_gs.viewer.panels.turntable import TurntablePanel
from fsd_gs.viewer.panels.view import ViewPanel
from fsd_gs.viewer.scene import Scene
from fsd_gs.viewer.server import address, check_port, open_server
from fsd_gs.viewer.splat_node import SplatNode, splat_arrays
from fsd_gs.viewer.start_page import StartPage, finished_assets
from fsd_gs.viewer.text import duration, plain_markdown
from fsd_gs.viewer.training_page import TrainingPage

pytest.importorskip("viser", reason="the live pages need viser: pip install 'fsd-gs[viewer]'")
CPU = make_rasterizer("cpu")
TINY = [
    "render.sizes=[32]",
    "render.size_at=[0.0]",
    "splats.count=100",
    "densify.kind=none",
    "prior.name=exact",
    "guidance.cfg_scale=1.0",
    "prior.objects=2",
    "prior.distractors=1",
]
TINY += ["prior.name=exact", "guidance.cfg_scale=1.0", "cameras.azimuth_grid=4", "cameras.elevation_grid=1"]


@pytest.fixture
def server():
    server = open_server(port=0, say=lambda _: None)
    yield server
    server.stop()


def soon(condition, seconds=60.0):
    """Wait for what another thread does; whether it came."""
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return met


def nothing():
    return egg(10).select(torch.arange(0))


# -- the server ------------------------------------------------------------------------------------------------------------


def test_listens_on_this_machine_only(server):
    assert server.get_host() == "127.0.0.1"
    assert address(server) == f"http://127.0.0.1:{server.get_port()}"
    assert server.request_share_url() is None  # the page's share button, if somebody found one, reaches nobody


def test_a_taken_port_is_an_error_not_another_port():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BackendError, match=f"viewer port: {port} is in use; choose another"):
            open_server(port=port)
    check_port("127.0.0.1", port)


def test_other_hosts_warn_and_unknown_ones_fail():
    said = []
    open_server("0.0.0.0", 0, say=said.append).stop()
    assert len(said) == 1
    assert "warning: the viewer listens on 0.0.0.0" in said[0]
    with pytest.raises(BackendError, match=r"'no\.such\.host\.invalid' is not an address of this machine"):
        open_server("no.such.host.invalid", 0)
    with pytest.raises(BackendError, match=r"cannot listen on 192\.0\.2\.1"):  # TEST-NET-1: valid, but never ours
        open_server("192.0.2.1", 0)


# -- splats for viser ------------------------------------------------------------------------------------------------------


def test_rotations_by_hand():
    half = math.sqrt(0.5)
    quarter_turn = matrix_from_quat(2.0 * torch.tensor([[half, 0, 0, half]], dtype=torch.float64))[0]  # 90° about z, any length
    expected = torch.tensor([[0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    assert torch.allclose(quarter_turn, expected, atol=1e-12)


def test_splat_arrays_are_those_of_the_asset():
    g = random_gaussians(50, sh_degree=2)
    centers, covariances, rgbs, opacities = splat_arrays(g)
    assert np.array_equal(centers, g.means.numpy())
    eigenvalues = np.linalg.eigvalsh(covariances.astype(np.float64))
    assert np.allclose(eigenvalues, np.sort(g.scales.double().numpy() ** 2, axis=1), rtol=1e-3, atol=1e-9)
    assert np.allclose(rgbs, np.clip(0.5 + SH_C0 * g.sh[:, 0].numpy(), 0, 1))
    assert np.array_equal(opacities[:, 0], g.opacities.numpy())


def test_splat_arrays_keep_the_important_and_the_finite():
    g = random_gaussians(50)
    means = g.means.clone()
    means[7] = float("nan")
    opacities = torch.where(torch.arange(50) % 2 == 0, 0.9, 1e-6)
    centers = splat_arrays(replace(g, means=means, opacities=opacities), cap=20)[0]
    assert len(centers) == 20
    assert np.isfinite(centers).all()
    assert {tuple(c) for c in centers} <= {tuple(c) for c in g.means[::2].numpy()}


def test_the_number_of_splats_may_change_to_zero_and_back(server):
    node = SplatNode(server)
    for splats in (egg(100), egg(30), nothing(), nothing(), egg(50)):
        assert node.show(splats) == len(splats)
    assert node.show(egg(100), cap=40) == 40


# -- pictures from here ----------------------------------------------------------------------------------------------------


def browser_view(azimuth, elevation, distance=2.4, fov_deg=40.0, aspect=1.5):
    """The camera as viser describes it: from scipy, independent of our own conversion."""
    from scipy.spatial.transform import Rotation

    pose = orbit_cameras([azimuth], elevation, distance=distance).world_from_camera[0].double().numpy()
    x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
    return View((w, x, y, z), tuple(pose[:3, 3]), math.radians(fov_deg), aspect)


def test_the_browsers_camera_becomes_ours():
    camera = camera_of(browser_view(70, 25), height=100)
    expected = orbit_cameras([70], 25, distance=2.4, fov_y_deg=40, width=150, height=100)
    assert (camera.width, camera.height) == (150, 100)
    assert torch.allclose(camera.viewmats, expected.viewmats, atol=1e-5)
    assert torch.allclose(camera.Ks, expected.Ks, atol=1e-3)


@pytest.mark.parametrize("mode", ["rgb", "depth", "alpha", "normal"])
def test_every_mode_paints_the_object_over_the_background(mode):
    green = (0.0, 1.0, 0.0)
    picture = paint(Scene(egg(500), mode, green), browser_view(10, 10), 64, CPU)
    assert picture.shape == (64, 96, 3)
    corner = (0, 0, 0) if mode == "alpha" else (0, 255, 0)
    assert tuple(picture[0, 0]) == corner
    assert np.abs(picture[32, 48].astype(int) - corner).max() > 50
    empty = paint(Scene(nothing(), mode, green), browser_view(10, 10), 64, CPU)
    assert (empty == (0, 255, 0)).all()


def test_rendered_pictures_show_view_dependent_colour():
    front, back = (paint(Scene(with_sh(egg(500)), "rgb"), browser_view(azimuth, 0), 48, CPU)[24, 36] for azimuth in (0, 180))
    assert int(front[0]) - int(back[0]) > 100


def with_sh(splats):
    """Grey splats whose first band makes what faces −x brighter in red when looked at along −x."""
    sh = torch.zeros(len(splats), 4, 3)
    sh[:, 3, 0] = 0.9  # Y_11 ∝ −x of the viewing direction
    return replace(splats, sh=sh)


def test_latest_wins_merges_pokes_survives_errors_and_stops():
    started, done, release = [], threading.Semaphore(0), threading.Event()
    begun = threading.Event()

    def job():
        started.append(len(started))
        begun.set()
        try:
            assert release.wait(30)
            if len(started) == 1:
                raise ValueError("one bad picture")
            return 0.01 if len(started) == 2 else None
        finally:
            done.release()

    worker = LatestWins(job, "test")
    worker.poke()
    assert begun.wait(30)
    for _ in range(9):  # it is busy: these wait as one
        worker.poke()
    release.set()
    for _ in range(3):  # the failure, the nine pokes, and the one it asked for itself
        assert done.acquire(timeout=30)
    worker.close()  # joins the thread
    worker.poke()
    assert not worker._thread.is_alive()
    assert started == [0, 1, 2]


# -- inspecting ------------------------------------------------------------------------------------------------------------


def test_filters():
    g = random_gaussians(200)
    assert apply_filter(g, Filter()) is g
    kept = apply_filter(g, Filter(min_opacity=0.5))
    assert torch.equal(kept.means, g.means[g.opacities >= 0.5])
    low, high = g.means[:, 2].min(), g.means[:, 2].max()
    lower_half = apply_filter(g, Filter(crop=((0, 1), (0, 1), (0, 0.5))))
    assert torch.equal(lower_half.means, g.means[g.means[:, 2] <= low + 0.5 * (high - low)])
    assert len(apply_filter(nothing(), Filter(min_opacity=0.5))) == 0
    floater = replace(egg(300), means=torch.cat([egg(300).means[:-1], torch.tensor([[5.0, 5.0, 5.0]])]))
    assert len(apply_filter(floater, Filter(largest_component=True))) == 299


def test_exported_bytes_read_back(tmp_path):
    name, content = exported(egg(50), "an-egg", "compressed-ply", ExportOptions(target="blender"))
    assert name == "an-egg.compressed.ply"
    (tmp_path / name).write_bytes(content)
    assert len(load_splats(tmp_path / name, target="blender")) == 50
    with pytest.raises(InputError, match="no splats to export; loosen the filters"):
        exported(nothing(), "an-egg", "ply", ExportOptions())


def test_inspector_follows_its_panels(server, tmp_path):
    far_away = replace(egg(300), means=egg(300).means * 10 + 100)
    for name, splats in (("a", egg(200)), ("b", far_away)):
        save_ply(splats, tmp_path / f"{name}.ply")
    inspector = Inspector(server, {name: tmp_path / f"{name}.ply" for name in "ab"}, CPU)
    asset, filters, formats = (inspector.board[kind] for kind in (AssetPanel, FilterPanel, ExportPanel))
    try:
        assert soon(lambda: asset.count.content == "**200** splats")
        asset.asset.value = "b"
        assert soon(lambda: asset.count.content == "**300** splats")
        shown = inspector.shown(inspector._kept)
        assert shown.means.norm(dim=1).max() < 1.2  # framed for the camera …
        assert torch.allclose(inspector._kept.means, far_away.means, atol=1e-4)  # … but exported where it is
        filters.crop[0].value = (0, 50)
        assert soon(lambda: 0 < len(inspector._kept) < 300)
        filters.min_opacity.value = 0.98  # all of the egg's opacities are 0.97
        assert soon(lambda: asset.count.content == "**no splats left**: loosen the filters")
        filters.clear()
        assert soon(lambda: asset.count.content == "**300** splats")
        formats.format.value = "spz"  # whose axes are its own
        formats.follow_format()
        assert tuple(formats.target.options) == ("usual for the format", *EXPORTERS["spz"].targets)
        formats.format.value = "ply"
        formats.follow_format()
        assert {"blender", "supersplat"} <= set(formats.target.options)
        inspector.board[ViewPanel].background.value = (255, 0, 0)
        assert inspector.background == (1.0, 0.0, 0.0)
        assert inspector.board[TurntablePanel].options().turntable.background == (1.0, 0.0, 0.0)
    finally:
        inspector.close()


def test_values_that_no_control_offers_change_nothing(server, tmp_path):
    """A browser may send whatever it likes."""
    save_ply(egg(50), tmp_path / "a.ply")
    inspector = Inspector(server, {"a": tmp_path / "a.ply"}, CPU)
    board = inspector.board
    try:
        board[AssetPanel].asset.value = "../../etc/passwd"
        board[ViewPanel].mode.value = "nonsense"
        board[ExportPanel].format.value = "exe"
        board[ExportPanel].follow_format()
        turntable = board[TurntablePanel]
        turntable.size.value, turntable.frames.value, turntable.mode.value = 10**9, -5, "x"
        inspector._refresh()
        assert len(inspector._kept) == 50
        settings = turntable.options().turntable
        assert (settings.size, settings.frames, settings.mode) == (2048, 2, "rgb")
    finally:
        inspector.close()


# -- panels ----------------------------------------------------------------------------------------------------------------


def test_every_panel_has_a_page_and_every_file_is_a_panel():
    from pathlib import Path

    from fsd_gs.viewer import panels

    files = {path.stem for path in Path(panels.__file__).parent.glob("*.py")} - {"__init__", "base"}
    assert set(PANELS) == files
    for kind in (LIVE, INSPECT, START):
        assert panels_of(kind)
    assert sum(map(len, map(panels_of, (LIVE, INSPECT, START)))) == len(PANELS) + 1  # the view panel is on two pages


def test_a_new_panel_is_a_module_and_its_name(server, tmp_path, monkeypatch):
    import sys
    from types import ModuleType

    class Halve(Panel):
        title, pages, closed = "Halve", (INSPECT,), False

        def build(self, gui):
            self.button = gui.add_button("Halve it")

        def apply(self, scene):
            return replace(scene, splats=scene.splats.select(torch.arange(len(scene.splats) // 2)))

        def close(self):
            Halve.closed = True

    module = ModuleType("fsd_gs.viewer.panels.halve")
    module.PANEL = Halve
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("fsd_gs.viewer.panels.base.PANELS", (*PANELS, "halve"))
    save_ply(egg(200), tmp_path / "egg.ply")
    inspector = Inspector(server, {"egg": tmp_path / "egg.ply"}, CPU)
    try:
        assert soon(lambda: inspector.board[AssetPanel].count.content == "**100** of 200 splats")
    finally:
        inspector.close()
    assert Halve.closed


def test_count_line():
    assert count_line(10, 0, 0) == "**no splats left**: loosen the filters"
    assert count_line(2000, 2000, 2000) == "**2,000** splats"
    assert count_line(2000, 1500, 1000) == "**1,500** of 2,000 splats, the 1,000 most important shown"


# -- live ------------------------------------------------------------------------------------------------------------------


def test_live_viewer_shows_saves_pauses_and_stops(server, tmp_path):
    viewer = LiveViewer(server, "a chair", tmp_path, settings=LiveSettings(rate=1000, share=1.0, idle_seconds=0.0))
    seen = {}

    def go_on():
        seen["step while paused"] = viewer._losses[-1][0]
        viewer.toggle_pause()

    def watch(report):  # called before the viewer is told of the same step
        if report.step == 2:
            viewer.save()
        if report.step == 3:
            assert viewer.toggle_pause()
            threading.Timer(0.3, go_on).start()
        if report.step == 4:
            board = viewer._board
            assert soon(lambda: "step 3 of 9" in board[RunPanel].numbers.content)  # the thread has sent what it had
            seen["numbers"], seen["points"] = board[RunPanel].numbers.content, len(board[LossPanel].plot.data[0])
            viewer.stop()

    result = generate("a red chair", overrides=[*TINY, "steps=9"], callbacks=[watch, viewer])
    assert not result.complete
    assert seen["step while paused"] == 3
    assert viewer._losses[-1][0] == 4
    assert "100 splats" in seen["numbers"]
    assert seen["points"] == 3
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["step-000002.ply"]
    assert len(viewer.node._handle.buffer) == 100  # stays on the page after the run


def test_a_paused_run_can_be_interrupted(server, tmp_path):
    interrupted = threading.Event()
    viewer = LiveViewer(server, "a chair", tmp_path, interrupted=interrupted.is_set)
    viewer.paused.set()
    threading.Timer(0.3, interrupted.set).start()
    result = generate("a red chair", overrides=[*TINY, "steps=2"], callbacks=[viewer])
    assert result.complete  # waiting ended; ending the run is the business of whoever caught Ctrl-C


def test_the_publisher_rests_in_proportion_to_its_cost(server, tmp_path, monkeypatch):
    """Updates that cost c of processor time are c / share apart, whatever comes meanwhile; the newest is never lost."""
    viewer = LiveViewer(server, "a chair", tmp_path, settings=LiveSettings(rate=1000, share=0.1, idle_seconds=0))
    published, rests, resting, go_on = [], [], threading.Semaphore(0), threading.Semaphore(0)

    def busy(snapshot):
        published.append(snapshot)
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass

    def rest(seconds):
        rests.append(seconds)
        resting.release()
        assert go_on.acquire(timeout=30)

    monkeypatch.setattr(viewer, "_publish", busy)
    monkeypatch.setattr(viewer, "_rest", rest)
    viewer._thread.start()
    viewer._offer("first")  # type: ignore[arg-type]
    assert resting.acquire(timeout=30)
    for number in range(50):
        viewer._offer(number)  # type: ignore[arg-type]
    go_on.release()
    assert resting.acquire(timeout=30)
    assert published == ["first", 49]
    assert all(0.2 <= seconds < 2 for seconds in rests)  # 20 ms at 10 %
    viewer._offer("last")  # type: ignore[arg-type]
    go_on.release(10)
    viewer.closed()
    assert published[-1] == "last"


def test_words():
    assert [duration(s) for s in (0.4, 59, 61, 3599, 7620)] == ["0 s", "59 s", "1 min 01 s", "59 min 59 s", "2 h 07 min"]
    assert plain_markdown("a *b*\n<i>[c](d)</i>") == r"a \*b\* \<i\>\[c\]\(d\)\</i\>"
    assert views_picture(torch.rand(5, 32, 32, 3)).shape == (2 * 192 + 4, 2 * 192 + 4, 3)


def test_warnings_reach_the_start_page(server, tmp_path):
    import logging

    start = StartPage(server, output=str(tmp_path), say=lambda _: None)
    try:
        logging.getLogger("fsd_gs.priors.words").warning("'yelow' is not known; did you mean *yellow*?")
        logging.getLogger("another.package").warning("not for the page")
        assert start.board._notes.visible
        assert start.board._notes.content == "- ⚠ " + plain_markdown("'yelow' is not known; did you mean *yellow*?")
        start._notes.clear()
        assert not start.board._notes.visible
    finally:
        start.close()
    assert not any(isinstance(handler, Notes) for handler in logging.getLogger("fsd_gs").handlers)


def test_the_button_is_heard_as_soon_as_it_or_the_message_is_seen(server, tmp_path, monkeypatch):
    start, asked = StartPage(server, output=str(tmp_path), say=lambda _: None), []
    say, set_busy = start.board.say, start.board.set_busy

    def refuse(config):
        asked.append(config)
        raise InputError("no such thing")

    def said(message, *, strong=False):
        say(message, strong=strong)
        if strong and len(asked) == 1:
            start.start()

    def shown(busy):
        set_busy(busy)
        if not busy and len(asked) == 2:
            start.start()

    for target, name, value in ((start, "_train", refuse), (start.board, "say", said), (start.board, "set_busy", shown)):
        monkeypatch.setattr(target, name, value)
    try:
        start.start()
        assert soon(lambda: len(asked) == 3)
    finally:
        start.close()


def test_a_page_appears_when_all_its_buttons_are_heard(server, tmp_path, monkeypatch):
    from fsd_gs.viewer.panels.make import MakePanel

    held, build, atomic = [], MakePanel.build, server.atomic

    @contextmanager
    def counted():
        held.append("begins")
        with atomic():
            yield
        held.append("ends")

    monkeypatch.setattr(server, "atomic", counted)
    monkeypatch.setattr(MakePanel, "build", lambda panel, gui: (build(panel, gui), held.append(MakePanel)))
    StartPage(server, output=str(tmp_path), say=lambda _: None).close()
    assert held == ["begins", MakePanel, "ends"]


# -- the page of a training run --------------------------------------------------------------------------------------------


def stopping_page(seen, *, keep):
    """A factory of pages whose Stop button is pressed as soon as the run has begun."""

    class Page(TrainingPage):
        def watch(self, config, interrupted):
            live = super().watch(config, interrupted)
            started = live.started

            def press_stop(session):
                started(session)
                seen["buttons"] = [panel.title for panel in live._board.panels]
                live.stop(keep=keep)

            live.started = press_stop
            return live

        def stay(self, folder, backend="auto", until=None):
            seen["stays with"] = list(finished_assets(folder))

    return Page


@pytest.mark.parametrize("keep", [False, True])
def test_stopping_in_the_page_ends_the_command_like_ctrl_c(tmp_path, capsys, keep):
    seen = {}
    words = [*TINY, "prompt=a red chair", "steps=20", "outputs.turntable_frames=0", "viewer=true", "viewer_port=0", f"output={tmp_path}"]
    code = train_command.main(words, open_page=stopping_page(seen, keep=keep), write_gallery=write_gallery)
    printed = capsys.readouterr()
    run = tmp_path / "a-red-chair" / "seed-0000"
    assert seen["buttons"][0] == "Run"
    assert code == (0 if keep else 130)
    assert seen.get("stays with") == (["a-red-chair-seed-0000"] if keep else None)  # what was kept can be looked at
    assert "error" not in printed.out + printed.err
    assert runs.is_finished(run) == keep
    assert (run.parent / "gallery.html").is_file() == keep
    if keep:
        assert "kept as of step 1 of 20" in printed.out
        assert len(load_splats(run / runs.SPLATS)) > 0
    else:
        assert "stopped at step 1 of 20; go on with resume=true" in printed.out
        assert train_command.main([*words, "resume=true", "viewer=false"], write_gallery=write_gallery) == 0
        assert runs.is_finished(run)


# -- time-lapse and command line -------------------------------------------------------------------------------------------


def previews(run, steps=(50, 100, 1000), size=(64, 48)):
    for step in steps:
        save_png(np.full((size[1], size[0], 3), step % 251, np.uint8), run / "previews" / f"{step:06d}.png")


def test_timelapse(tmp_path):
    previews(tmp_path)
    assert [step for step, _ in preview_files(tmp_path)] == [50, 100, 1000]
    frames = list(timelapse_frames(preview_files(tmp_path), extra_last=2))
    assert len(frames) == 5
    assert [int(frame[40, 60, 0]) for frame in frames] == [50, 100, 1000 % 251, 1000 % 251, 1000 % 251]
    assert frames[0][:20].std() > 5  # the label
    with av.open(str(write_timelapse(tmp_path, fps=4, hold=0.5))) as video:
        assert len(list(video.decode(video=0))) == 5
    with Image.open(write_timelapse(tmp_path, tmp_path / "t.gif", fps=4, hold=0)) as animation:
        assert animation.n_frames == 3


def test_timelapse_bad_input(tmp_path):
    with pytest.raises(FileFormatError, match="at least two pictures in previews/, got 0"):
        write_timelapse(tmp_path)
    previews(tmp_path)
    with pytest.raises(InputError, match=r"expected \.mp4 or \.gif, got 't\.avi'"):
        write_timelapse(tmp_path, "t.avi")
    (tmp_path / "previews" / "000100.png").write_bytes(b"half a pict")
    with pytest.raises(FileFormatError, match=r"000100\.png: not a readable picture"):
        write_timelapse(tmp_path)


def test_view_finds_files_runs_and_prompts(tmp_path):
    for seed in (0, 1):
        run = runs.prepare_folder(load_config(overrides=["prompt=an egg", f"output={tmp_path}", f"seed={seed}"]))
        save_ply(egg(20), run / runs.SPLATS)
    assert list(command.find_assets(run / runs.SPLATS)) == ["splats"]
    assert list(command.find_assets(run)) == ["an-egg-seed-0001"]
    assert list(command.find_assets(run.parent)) == ["an-egg-seed-0000", "an-egg-seed-0001"]


def test_view_bad_input(tmp_path):
    with pytest.raises(FileFormatError, match="no such run or file; check the path"):
        command.main([str(tmp_path / "nothing")])
    with pytest.raises(FileFormatError, match="no finished runs here"):
        command.main([str(tmp_path)])
    unfinished = runs.prepare_folder(load_config(overrides=["prompt=an egg", f"output={tmp_path}"]))
    with pytest.raises(FileFormatError, match="this run is not finished; go on with resume=true"):
        command.main([str(unfinished)])
    save_ply(nothing(), tmp_path / "empty.ply")
    with pytest.raises(InputError, match="there are no splats to show"):
        command.main([str(tmp_path / "empty.ply")])


def test_view_serves_until_told_to_end(tmp_path, capsys):
    import urllib.request

    save_ply(egg(20), tmp_path / "egg.ply")
    until, codes = threading.Event(), []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serving = threading.Thread(target=lambda: codes.append(command.main([str(tmp_path / "egg.ply"), "--port", str(port)], until=until)))
    serving.start()
    said, complained = [], []

    def hear():
        out, err = capsys.readouterr()
        said.append(out)
        complained.append(err)
        return "".join(said)

    assert soon(lambda: f"open http://127.0.0.1:{port}" in hear())
    assert b"<html" in urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=60).read(2000).lower()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as scanner:
        scanner.sendall(b"no HTTP\r\n\r\n")
        scanner.recv(1000)
    until.set()
    serving.join(60)
    assert codes == [0]
    lines = [line for line in hear().splitlines() if line.strip()]
    assert [line for line in lines if "egg.ply" not in line and f"127.0.0.1:{port}" not in line] == []  # nothing of viser's
    assert "".join(complained) == ""
