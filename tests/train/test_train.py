"""The loop as a whole, on runs of seconds: exactness of resume, the guard, interruption, outputs, and that FSD's step is FSD's."""

import json
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import fsd_gs
from fsd_gs.config import Config, GuardSettings, load_config
from fsd_gs.errors import DivergenceError, FileFormatError, InputError, OutputError
from fsd_gs.export.ply import load_ply
from fsd_gs.train import runs
from fsd_gs.train.api import generate, prepare, run
from fsd_gs.train.checkpoint import load_state, nonfinite_entry, save_state
from fsd_gs.train.command import file_observers, main
from fsd_gs.train.guard import Guard
from fsd_gs.train.loop import Observer, StopRun
from fsd_gs.train.observers import Interrupts, JsonLog
from fsd_gs.train.session import Session
from fsd_gs.train.step import StepReport, advance
from fsd_gs.train.step import fsd_step as real_fsd_step
from fsd_gs.train.step import step_all as real_step_all

TINY = [
    "prior.name=exact",
    "guidance.cfg_scale=1.0",
    "steps=12",
    "render.sizes=[16, 32]",
    "render.size_at=[0, 0.5]",
    "splats.count=150",
    "densify.every=3",
    "densify.cap=200",
    "prior.objects=4",
    "prior.distractors=2",
    "cameras.azimuth_grid=8",
    "cameras.elevation_grid=1",
    "outputs.turntable_frames=3",
    "outputs.turntable_size=32",
    "outputs.preview_every=4",
    "outputs.checkpoint_every=6",
]


def tiny(*overrides: str, prompt: str = "a red chair") -> Config:
    return load_config(overrides=[*TINY, f"prompt={prompt}", *overrides])


class StopAt(Observer):
    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, session: Session, report: StepReport) -> None:
        if report.step == self.step:
            raise StopRun


def states_equal(a: dict, b: dict) -> bool:
    assert a.keys() == b.keys()
    return all(torch.equal(a[k], b[k]) if isinstance(a[k], torch.Tensor) else a[k] == b[k] for k in a)


@pytest.mark.parametrize("overrides", [(), ("noise.gamma=0.3", "noise.beta=0.5", "noise.background=fresh"), ("schedule.kind=random",)])
def test_a_resumed_run_is_bit_identical(tmp_path, overrides):
    config = tiny(*overrides)
    straight = prepare(config)
    run(config, straight)
    first = prepare(config)
    run(config, first, [StopAt(7)])
    save_state(tmp_path / "state.safetensors", first.state_dict())
    second = prepare(config)
    result = run(config, second, checkpoint=tmp_path / "state.safetensors")
    assert result.complete
    assert states_equal(straight.state_dict(), second.state_dict())


def test_the_seed_decides_everything():
    def splats(seed: int) -> torch.Tensor:
        return generate("a mug", seed=seed, overrides=TINY).splats.means

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = splats(0)
    assert torch.equal(torch.get_rng_state(), before)  # the global generator is neither read nor moved
    torch.manual_seed(2)
    assert torch.equal(first, splats(0))
    other = splats(1)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_one_step_is_the_residual_of_the_paper():
    """With plain autograd from the definition: the injected gradient equals w (ε_φ − ε) ∂g/∂θ."""
    from fsd_gs.splats.parameters import activate
    from fsd_gs.train.step import fsd_step

    config = tiny("regularize.opacity=0", "regularize.alpha=0", "regularize.anisotropy=0")
    session = prepare(config)
    parts = session.parts
    generators_state = session.generators.views.get_state()
    output = fsd_step(parts, session.params, 3, session.generators)
    output.loss.backward()

    session.generators.views.set_state(generators_state)
    cameras = parts.sample_views(3, session.generators.views)
    background = parts.sample_background(session.generators.views)
    view = parts.rasterize(activate(session.params), cameras, background=background)
    latents = parts.prior.encode(view.rgb.permute(0, 3, 1, 2).contiguous())  # as the step: another layout sums in another order
    noise, t = parts.noise(cameras, view.alpha), torch.tensor(parts.schedule(3))
    schedule = parts.prior.schedule
    text = parts.prior.encode_text(config.prompt, "", cameras, background)
    with torch.no_grad():
        x_t = schedule.alpha(t) * latents + schedule.sigma(t) * noise
        residual = schedule.lambda_(t) * (parts.prior.predict_noise(x_t, t, text, cameras, config.guidance.cfg_scale) - noise)
    (expected,) = torch.autograd.grad(latents, session.params["means"], grad_outputs=residual / residual.numel())
    torch.testing.assert_close(session.params["means"].grad, expected, rtol=1e-3, atol=1e-9)
    assert expected.abs().max() > 0


def test_noise_is_fixed_over_the_run_and_t_falls():
    config = tiny("schedule.start=0.98", "schedule.end=0.1")
    session = prepare(config)
    cameras = session.parts.sample_views(0, torch.Generator().manual_seed(0))
    before = session.parts.noise(cameras)
    times: list[float] = []
    run(config, session, [_Collect(times)])
    assert torch.equal(before, session.parts.noise(cameras))
    assert times == sorted(times, reverse=True)
    assert times[0] == pytest.approx(0.98)
    assert times[-1] == pytest.approx(0.1)


class _Collect(Observer):
    def __init__(self, times: list[float]) -> None:
        self.times = times

    def stepped(self, session: Session, report: StepReport) -> None:
        self.times.append(report.t)


@pytest.mark.parametrize(("method", "published"), [("score", "one"), ("nfsd", "sigma2")])
def test_weight_auto_is_the_published_one(method, published):
    assert prepare(tiny(f"guidance.method={method}", "guidance.weight=auto")).parts.guidance.weight == published
    assert prepare(tiny(f"guidance.method={method}", "guidance.weight=sigma")).parts.guidance.weight == "sigma"


def make_guard(said: list[str], **settings: float) -> Guard:
    return Guard(GuardSettings(**{"snapshot_every": 2, "max_rollbacks": 2, "rate_factor": 0.5, **settings}), say=said.append)  # type: ignore[arg-type]


def test_the_guard_rolls_back_lowers_the_rates_and_says_so():
    session = prepare(tiny())
    said: list[str] = []
    guard = make_guard(said)
    for _ in range(3):
        assert advance(session, guard) is not None
    good = session.step
    with torch.no_grad():
        session.params["opacities"][3] = float("nan")
    assert advance(session, guard) is None
    assert session.step == 2
    assert good == 3
    assert torch.isfinite(session.params["opacities"]).all()
    assert session.rate_factor == 0.5
    assert "not finite at step 3" in said[0]
    assert "back to step 2, learning rates × 0.5" in said[0]
    assert advance(session, guard) is not None
    assert session.optimizers["sh0"].param_groups[0]["lr"] == pytest.approx(0.5 * session.rates.sh0)


def test_the_guard_gives_up_with_advice():
    session = prepare(tiny())
    guard = make_guard([])
    assert advance(session, guard) is not None
    for _ in range(2):
        with torch.no_grad():
            session.params["means"][0, 0] = float("inf")
        assert advance(session, guard) is None
        assert advance(session, guard) is not None  # what it went back to was good
    with torch.no_grad():
        session.params["means"][0, 0] = float("inf")
    with pytest.raises(DivergenceError, match=r"after 2 rollbacks; lower rates\.\* or guidance\.cfg_scale"):
        advance(session, guard)
    assert nonfinite_entry(session.state_dict()) is None  # the last good state, fit for a checkpoint


def test_a_poisoned_start_is_no_state_to_go_back_to():
    session = prepare(tiny())
    with torch.no_grad():
        session.params["means"][0, 0] = float("nan")
    with pytest.raises(DivergenceError, match=r"params\.means is not finite before step 1"):
        advance(session, make_guard([]))


@pytest.mark.parametrize("where", ["loss", "gradient", "huge gradient", "parameter", "moment"])
@pytest.mark.parametrize("step", [0, 1, 4, 11])  # the first, one in the middle, one before a snapshot, the last
def test_whatever_is_not_finite_is_found_after_its_own_step(where, step, monkeypatch):
    """Each stage of a step poisoned once, at several steps: the run goes back and ends complete, with finite splats."""
    session = prepare(tiny())
    said: list[str] = []
    poison = _Poison(session, where, step)
    monkeypatch.setattr("fsd_gs.train.step.step_all", poison.step_all)
    monkeypatch.setattr("fsd_gs.train.step.fsd_step", poison.fsd_step)
    guard = make_guard(said)
    while session.step < session.steps:
        advance(session, guard)
        assert nonfinite_entry(session.state_dict()) is None
    assert poison.done
    assert len(said) == 1
    assert f"at step {step}" in said[0]


class _Poison:
    """Puts one value that is not finite into one stage of one step."""

    def __init__(self, session: Session, where: str, step: int) -> None:
        self.session, self.where, self.step, self.done = session, where, step, False

    def due(self, where: str) -> bool:
        if self.done or self.session.step != self.step or where != self.where:
            return False
        self.done = True
        return True

    def fsd_step(self, parts, params, step, generators):
        output = real_fsd_step(parts, params, step, generators)
        return replace(output, loss=output.loss * float("nan")) if self.due("loss") else output

    def step_all(self, optimizers):
        means = self.session.params["means"]
        if self.due("gradient"):
            means.grad[0, 0] = float("inf")
        if self.due("huge gradient"):
            means.grad[0, 0] = 1e30  # finite, but its square is not: Adam would stand still from here on without a sign
        real_step_all(optimizers)
        with torch.no_grad():
            if self.due("parameter"):
                self.session.params["opacities"][0] = float("nan")
            if self.due("moment"):
                optimizers["sh0"].state[self.session.params["sh0"]]["exp_avg_sq"][0] = float("inf")


def test_outputs_of_the_command(tmp_path, capsys):
    assert main([*TINY, "prompt=a red chair", f"output={tmp_path}", "count=2"]) == 0
    for seed in (0, 1):
        folder = tmp_path / "a-red-chair" / f"seed-{seed:04d}"
        for name in ("config.yaml", "splats.ply", "preview.png", "turntable.mp4", "log.jsonl", "checkpoint/state.safetensors"):
            assert (folder / name).stat().st_size > 0, name
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == list(range(1, 13))
        assert len(load_ply(folder / "splats.ply")) > 0
        assert (folder / "previews" / "000004.png").is_file()
        assert not list(folder.glob(".*.tmp*"))
    first, second = (load_ply(tmp_path / "a-red-chair" / f"seed-{s:04d}" / "splats.ply").means for s in (0, 1))
    assert first.shape != second.shape or not torch.equal(first, second)
    with pytest.raises(OutputError, match="a finished run exists; use resume=true"):
        main([*TINY, "prompt=a red chair", f"output={tmp_path}"])
    assert main([*TINY, "prompt=a red chair", f"output={tmp_path}", "resume=true"]) == 0
    assert "already finished" in capsys.readouterr().out
    assert main([*TINY, "prompt=a red chair", f"output={tmp_path}", "overwrite=true"]) == 0


@pytest.mark.long
def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been(tmp_path):
    arguments = [*TINY, "prompt=a mug"]
    config = load_config(overrides=[*arguments, f"output={tmp_path / 'a'}"])
    session = prepare(config)
    folder = runs.prepare_folder(config)
    interrupts = Interrupts()

    class PressCtrlC(Observer):
        def stepped(self, session: Session, report: StepReport) -> None:
            if report.step == 5:
                signal.raise_signal(signal.SIGINT)

    result = run(config, session, [*file_observers(config, session, folder), PressCtrlC(), interrupts])
    assert not result.complete
    assert interrupts.received == signal.SIGINT
    assert load_state(folder / runs.CHECKPOINT)["step"] == 5
    assert not runs.is_finished(folder)
    with pytest.raises(OutputError, match="an unfinished run exists"):
        main([*arguments, f"output={tmp_path / 'a'}"])
    with pytest.raises(OutputError, match=r"cannot resume with other settings: steps \(12 → 13\)"):
        main([*arguments, f"output={tmp_path / 'a'}", "resume=true", "steps=13"])
    assert main([*arguments, f"output={tmp_path / 'a'}", "resume=true"]) == 0
    assert main([*arguments, f"output={tmp_path / 'b'}"]) == 0
    ends = [load_ply(tmp_path / x / "a-mug" / "seed-0000" / "splats.ply") for x in "ab"]
    assert torch.equal(ends[0].means, ends[1].means)
    assert torch.equal(ends[0].sh, ends[1].sh)
    steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 13))


def test_library_call(tmp_path):
    reports: list[StepReport] = []
    result = fsd_gs.generate("a blue mug", seed=3, overrides=TINY, callbacks=[reports.append])
    assert [r.step for r in reports] == list(range(1, 13))
    assert reports[-1].splats <= 200
    view = result.render(fsd_gs.orbit_cameras([0, 90], width=24))
    assert view.rgb.shape == (2, 24, 24, 3)
    assert view.depth is not None
    folder = result.save(tmp_path / "mine")
    assert {p.name for p in folder.iterdir()} == {"config.yaml", "preview.png", "turntable.mp4", "splats.ply"}
    again = fsd_gs.load_splats(folder / "splats.ply")
    torch.testing.assert_close(again.means, result.splats.means)


def test_any_prior_will_do():
    """A prior of one's own: it pulls every pixel towards green; the splats turn green."""
    from fsd_gs.core.types import TextCondition
    from fsd_gs.priors.schedule import DiscreteSchedule

    class Green:
        schedule = DiscreteSchedule.scaled_linear()
        latent_shape = (3, 16, 16)
        image_size = 16
        views = 1

        def encode_text(self, prompt, negative_prompt, cameras, background=None):
            return TextCondition(prompt, negative_prompt)

        def encode(self, rgb):
            return torch.nn.functional.interpolate(rgb, (16, 16), mode="area") * 2 - 1

        def decode(self, latents):
            return (latents + 1) / 2

        def predict_noise(self, latents_t, t, text, cameras, cfg_scale):
            clean = torch.tensor([-1.0, 1.0, -1.0])[:, None, None]
            return (latents_t - self.schedule.alpha(t) * clean) / self.schedule.sigma(t)

    overrides = [*TINY, "steps=40", "cameras.azimuth_grid=0", "cameras.elevation_grid=0", "outputs.clean=false"]
    result = generate("anything at all", overrides=overrides, prior=Green())
    colours = result.render(fsd_gs.orbit_cameras([0, 90], width=24))
    seen = colours.rgb[(colours.alpha > 0.8).expand_as(colours.rgb)].reshape(-1, 3).mean(0)
    assert seen[1] > seen[0] + 0.3
    assert seen[1] > seen[2] + 0.3


def test_bad_input_is_found_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="names nothing that this prior knows"):
        main([*TINY, "prompt=a qwertyuiop", f"output={tmp_path}"])
    with pytest.raises(InputError, match="expected words"):
        main([*TINY, "prompt=  ", f"output={tmp_path}"])
    with pytest.raises(FileFormatError):
        main([*TINY, "prompt=a mug", f"output={tmp_path}", "splats.init=missing.ply"])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot"):
        main([*TINY, "prompt=a mug", f"output={tmp_path / 'file'}"])


def test_damaged_checkpoints_are_named(tmp_path):
    path = tmp_path / "state.safetensors"
    with pytest.raises(FileFormatError, match="no checkpoint here"):
        load_state(path)
    save_state(path, {"step": 3, "x": torch.arange(4)})
    assert load_state(path)["step"] == 3
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(FileFormatError, match="damaged checkpoint"):
        load_state(path)


def test_a_log_cut_off_by_a_kill_is_mended(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    session = prepare(tiny())
    session.step = 2
    log = JsonLog(path)
    log.started(session)
    log.said("hello")
    log.closed()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"step": 1}, {"step": 2}, {"note": "hello"}]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red chair", "a-red-chair"),
        ("../../etc/passwd", "etc-passwd-[0-9a-f]{8}"),
        ("<script>", "script-[0-9a-f]{8}"),
        ("", "[0-9a-f]{8}"),
    ],
)
def test_slugs(prompt, expected):
    assert re.fullmatch(expected, runs.slug(prompt))


def test_prompts_that_differ_get_folders_that_differ():
    prompts = [
        "a red chair",
        "A red chair",
        "A red chair!",
        "a red chair?",
        "a  red chair",
        " a red chair",
        "a red-chair",
        "a réd chair",
        "a_red_chair",
    ]
    assert len({runs.slug(prompt) for prompt in prompts}) == len(prompts)
    assert all(re.fullmatch("[a-z0-9-]+", runs.slug(prompt)) for prompt in prompts)


def test_slugs_of_long_and_foreign_prompts_stay_apart():
    assert runs.slug("x" * 200) != runs.slug("x" * 201)
    assert len(runs.slug("x" * 200)) < 80
    assert runs.slug("红色的椅子") != runs.slug("蓝色的椅子")
    assert Path(runs.slug("红色的椅子")).name == runs.slug("红色的椅子")
