"""The model card's instruments: DDIM sampling of several prompts at once, the judge's counts, and predicted views."""

import importlib
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from diffusers import DDIMScheduler

from fsd_gs import priors
from fsd_gs.catalogue.objects import make_object
from fsd_gs.catalogue.render import render_mesh
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.sheets import CAPTION
from fsd_gs.errors import InputError
from fsd_gs.metrics.judge import Judge, JudgeOutput
from fsd_gs.metrics.judge.words import Asked
from fsd_gs.pretrain.sources import is_held_out
from fsd_gs.pretrain.views import picture_over
from fsd_gs.priors import LoadOptions
from fsd_gs.priors.backbones.nano import NanoPrior
from fsd_gs.priors.sampling import ddim, join_texts, sample_views, views_together

sys.path.append(str(Path(__file__).parent.parent.parent / "benchmarks"))  # behind: it has a fleet.py, as the tests have a fleet/
agreement, captions, consistency, identify, pictures, speed = (
    importlib.import_module(f"card.{name}") for name in ("agreement", "captions", "consistency", "identify", "pictures", "speed")
)
RIG = orbit_cameras([0.0, 90.0, 180.0, 270.0], 15.0, distance=2.2, width=16)
PROMPTS = ["a red chair", "a blue mug", "a cat"]
COLORS = torch.tensor([[1.0, 1.0, 1.0], [0.5, 0.5, 0.5], [0.0, 0.0, 0.0]])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def tiny_prior(folder, prediction, **scheduler):
    """A tiny random embedded prior that takes any caption."""
    pipeline = tiny.stable_diffusion(prediction, scheduler, class_embed_type="projection", projection_class_embeddings_input_dim=16)
    tiny.save(pipeline, folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"views": 4, "prompt_suffix": "", "names_background": True}))
    loaded = priors.load(folder, dtype="float32", options=LoadOptions(text_encoder="keep", vae_slicing=False))
    assert isinstance(loaded, NanoPrior)
    return loaded


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    return tiny_prior(tmp_path_factory.mktemp("card") / "prior", "v_prediction")


@pytest.fixture(scope="module")
def judge():
    return Judge.load()


# Sampling


@pytest.mark.parametrize(
    ("prediction", "zero_snr"), [("epsilon", False), ("v_prediction", False), ("v_prediction", True), ("sample", False), ("sample", True)]
)
def test_ddim_is_diffusers(tmp_path, prediction, zero_snr):
    """The same path as DDIMScheduler's on its trailing timesteps, which takes the network's own output."""
    prior = tiny_prior(tmp_path / "prior", prediction, rescale_betas_zero_snr=zero_snr)
    noise, steps, scale = torch.randn(4, *prior.latent_shape, generator=seeded()), 5, 4.0
    text = prior.encode_text(PROMPTS[0], "", RIG, COLORS[1])
    scheduler = DDIMScheduler(
        **tiny.SD_BETAS,
        prediction_type=prediction,
        clip_sample=False,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        rescale_betas_zero_snr=zero_snr,
    )
    scheduler.set_timesteps(steps)
    x = noise
    for n in scheduler.timesteps:
        with torch.no_grad():
            output = prior.raw_prediction(x, torch.as_tensor((int(n) + 1) / 1000, dtype=torch.float64), text, RIG, scale)
        x = scheduler.step(output, int(n), x, eta=0.0).prev_sample
    ours = ddim(prior, noise, text, RIG, steps, scale)
    assert (ours - noise).abs().mean() > 0.1
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)


def test_noise_prediction_without_signal_is_refused(tmp_path):
    prior = tiny_prior(tmp_path / "prior", "epsilon", rescale_betas_zero_snr=True)
    text = prior.encode_text(PROMPTS[0], "", RIG)
    with pytest.raises(InputError, match="needs v-prediction"):
        ddim(prior, torch.randn(4, *prior.latent_shape), text, RIG, 2, 4.0)


@pytest.mark.parametrize("cameras", [RIG, None], ids=["views", "single"])
def test_prompts_in_a_batch_are_as_one_by_one(prior, cameras):
    def sample(batch):
        return sample_views(prior, PROMPTS, cameras, generator=seeded(), steps=3, background=COLORS, batch=batch)

    together, alone = sample(3), sample(1)
    assert together.shape == (3, 1 if cameras is None else 4, 3, 16, 16)
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)
    # And each prompt is told its own words and its own background: swapping either changes its sample, and only its.
    swapped = sample_views(prior, [PROMPTS[0], PROMPTS[0], PROMPTS[2]], cameras, generator=seeded(), steps=3, background=COLORS, batch=3)
    repainted = sample_views(prior, PROMPTS, cameras, generator=seeded(), steps=3, background=COLORS[[0, 0, 2]], batch=3)
    for other in (swapped, repainted):
        changed = (other - together).abs().amax(dim=(1, 2, 3, 4))
        assert changed[1] > 1e-3
        assert max(changed[0], changed[2]) < 1e-4


def test_each_prompt_has_its_own_rig(prior):
    turned = orbit_cameras([45.0, 135.0, 225.0, 315.0], 15.0, distance=2.2, width=16)
    mixed = sample_views(prior, PROMPTS[:2], [RIG, turned], generator=seeded(), steps=2)
    same = sample_views(prior, PROMPTS[:2], RIG, generator=seeded(), steps=2)
    torch.testing.assert_close(mixed[0], same[0], rtol=1e-3, atol=1e-4)
    assert (mixed[1] - same[1]).abs().max() > 1e-3


def test_views_together_couples_as_many_views_as_asked(prior):
    """A change of one view's noise reaches exactly the views that are denoised with it."""
    ring = orbit_cameras([45.0 * v for v in range(8)], 15.0, distance=2.2, width=16)
    noise = torch.randn(8, *prior.latent_shape, generator=seeded())
    nudged = noise.clone()
    nudged[0] += 0.5
    text = join_texts([prior.encode_text("a cat", "", ring)], 8)

    def reached():
        difference = ddim(prior, noise, text, ring, 1, 1.0) - ddim(prior, nudged, text, ring, 1, 1.0)
        return (difference.abs().amax(dim=(1, 2, 3)) > 1e-7).tolist()

    assert reached() == [True] * 4 + [False] * 4
    with views_together(prior, 8):
        assert reached() == [True] * 8
    assert prior.views == 4


def test_sampling_refuses_what_does_not_fit(prior):
    with pytest.raises(InputError, match="multiple of 4 views"):
        sample_views(prior, PROMPTS, RIG[:3], generator=seeded(), steps=1)
    with pytest.raises(InputError, match="one rig for each of the 3 prompts, got 2"):
        sample_views(prior, PROMPTS, [RIG, RIG], generator=seeded(), steps=1)
    with pytest.raises(InputError, match=r"background: expected shape \[3, 3\]"):
        sample_views(prior, PROMPTS, RIG, generator=seeded(), steps=1, background=COLORS[:2])
    with pytest.raises(InputError, match="steps: expected at least 1"):
        sample_views(prior, PROMPTS, RIG, generator=seeded(), steps=0)


# Captions


def test_captions_are_what_their_group_says(judge):
    chosen = captions.choose_captions(80, (), np.random.default_rng(0))
    assert Counter(c.group for c in chosen) == {captions.UNSEEN: 40, captions.SEEN: 40}
    for c in chosen:
        assert is_held_out(*c.triple) == (c.group == captions.UNSEEN)
        assert judge.read(c.prompt) == c.asked, c.prompt  # the judge reads the words as they were meant
        if c.group == captions.UNSEEN:
            assert c.asked.color
            assert c.asked.design
    open_ones = Counter((c.asked.color is None, c.asked.design is None) for c in chosen if c.group == captions.SEEN)
    assert set(open_ones.values()) == {10}
    seen = Counter(c.asked.category for c in chosen if c.group == captions.SEEN)
    assert max(seen.values()) == 1  # 53 categories take 40 captions
    assert len({(c.background, c.group) for c in chosen}) == 6


def test_captions_of_some_categories_and_in_full():
    chosen = captions.choose_captions(30, ("chair", "mug"), np.random.default_rng(0), full=True)
    assert {c.asked.category for c in chosen} == {"chair", "mug"}
    assert all(c.asked.color and c.asked.design for c in chosen)
    again = captions.choose_captions(30, ("chair", "mug"), np.random.default_rng(0), full=True)
    assert chosen == again


# Counting


def output_of(judge, labels):
    """The judge's output for views that show (category, colour, design) without a doubt."""

    def logits(names, picks):
        rows = torch.full((len(picks), len(names)), -9.0)
        for row, name in zip(rows, picks, strict=True):
            row[names.index(name)] = 9.0
        return rows

    categories, colors, designs = zip(*labels, strict=True)
    return JudgeOutput(
        logits(judge.categories, categories), logits(judge.colors, colors), logits(judge.designs, designs), torch.zeros(len(labels), 1)
    )


TALL, ARMS, LEGS = "chair/with a tall back", "chair/with armrests", "stool/with three legs"


def test_a_verdict_worked_by_hand(judge):
    views = [("chair", "red", TALL), ("chair", "red", TALL), ("chair", "blue", ARMS), ("stool", "red", LEGS)]
    v = agreement.verdict(judge, 7, Asked("chair", "red", TALL), output_of(judge, views))
    assert v.caption == 7
    assert v.said == {"category": "chair", "color": "red", "design": TALL}
    assert v.right == {"category": True, "color": True, "design": True}
    assert v.views_right == {"category": 0.75, "color": 0.75, "design": 0.5}
    wrong = agreement.verdict(judge, 0, Asked("stool", "blue"), output_of(judge, views))
    assert wrong.right == {"category": False, "color": False}
    assert wrong.views_right == {"category": 0.25, "color": 0.25}


def test_rates_are_means_over_captions():
    """Caption 0: both seeds right; caption 1: one of two; caption 2 asks for no colour. 75 %, not 3 of 4 or 3 of 5 by chance alike."""
    rights = [(0, True), (0, True), (0, True), (1, False), (2, None)]
    verdicts = [
        agreement.Verdict(n, {}, {"category": True} | ({} if right is None else {"color": right}), {"category": 1.0, "color": 0.25})
        for n, right in rights
    ]
    rate = agreement.rate(verdicts, "color")
    assert rate.mean == 0.5
    assert rate.n == 2
    assert (rate.low, rate.high) == (0.0, 1.0)
    assert agreement.rate(verdicts, "color", single_views=True).mean == 0.25
    assert agreement.rate(verdicts, "category").mean == 1.0
    assert agreement.rate(verdicts, "category").n == 3
    assert agreement.rate(verdicts, "design").mean is None


def test_summary_counts_confusions_and_categories(judge):
    made = [
        captions.Caption("a red chair", Asked("chair", "red"), ("chair", "with armrests", "red"), captions.SEEN, "white"),
        captions.Caption("a blue mug", Asked("mug", "blue"), ("mug", "with stripes", "blue"), captions.UNSEEN, "gray"),
    ]
    stool, chair = ("stool", "red", LEGS), ("chair", "blue", ARMS)
    verdicts = [agreement.verdict(judge, 0, made[0].asked, output_of(judge, [views] * 2)) for views in (stool, stool, chair)]
    verdicts.append(agreement.verdict(judge, 1, made[1].asked, output_of(judge, [("mug", "blue", "mug/with stripes")] * 2)))
    result = agreement.summary(made, verdicts)
    assert result["confusions"]["category"] == {"chair → stool": 2}
    assert result["confusions"]["color"] == {"red → blue": 1}  # among the samples of the asked category
    assert list(result["by_category"]) == ["chair", "mug"]
    assert result["by_category"]["chair"]["category"] == pytest.approx(1 / 3)
    assert result["by_category"]["mug"] == {"samples": 1, "category": 1.0, "color": 1.0, "design": None}
    assert result["rates"][captions.UNSEEN]["category"]["majority"]["mean"] == 1.0
    assert result["rates"]["all"]["category"]["majority"]["mean"] == pytest.approx(2 / 3)


# Views


def test_hull_contains_the_object_and_little_else():
    cameras = consistency.ring(20.0, 48)
    mesh = make_object("mug", 5).mesh
    images = picture_over(render_mesh(mesh, cameras), torch.zeros(3))
    points = consistency.hull_points(consistency.foreground(images, torch.zeros(3)), cameras, 40)
    vertices = torch.from_numpy(mesh.vertices)
    cell = 2 / 39
    assert torch.cdist(vertices, points).amin(dim=1).quantile(0.95) < 1.5 * cell
    assert (points.amax(0) <= vertices.amax(0) + 2 * cell).all()
    # Downwards it may go on in a cone: no camera looks from below.
    assert (points.amin(0) >= vertices.amin(0) - 2 * cell)[:2].all()


def test_psnr_by_hand():
    background = torch.zeros(3)
    a, b = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    a[..., 0, 0], b[..., 0, 0] = 0.6, 0.5
    b[..., 1, 1] = 0.2
    errors = {"image": (0.01 + 0.04) / 16, "object": (0.01 + 0.04) / 2}
    expected = {name: -10 * np.log10(error) for name, error in errors.items()}
    assert consistency.psnr(a, b, background) == pytest.approx(expected, rel=1e-5)


def test_splats_of_a_true_object_predict_its_other_views_better_than_another_object():
    cameras, background = consistency.ring(10.0, 32), torch.ones(3)
    own, other = (picture_over(render_mesh(make_object("chair", seed, color="red").mesh, cameras), background) for seed in (1, 2))
    case = consistency.Case(cameras, background, own, other)
    seen, scores = consistency.predict_between(case, consistency.FitSettings(splats=1200, steps=80, grid=32), seeded())
    assert seen.shape == (8, 3, 32, 32)
    assert scores["fitted views"]["object"] > scores["own"]["object"] > scores["other"]["object"] + 1
    assert scores["own"]["object"] > scores["neighbour"]["object"]
    flat = consistency.summarize([scores, scores])
    assert flat["object"]["own − other"]["mean"] == pytest.approx(scores["own"]["object"] - scores["other"]["object"])
    assert flat["image"]["own above other"] == 1.0


def test_identified_by_hand():
    """Two objects of one grey each; views 0–2 of the sample are nearer to the first, view 3 shows the second."""
    background = torch.zeros(3)
    objects = torch.stack([torch.full((4, 3, 2, 2), 0.4), torch.full((4, 3, 2, 2), 0.8)])
    sample = torch.full((4, 3, 2, 2), 0.5)
    sample[3] = 0.7
    psnr = [[20.0, -20 * np.log10(0.3)]] * 3 + [[-20 * np.log10(0.3), 20.0]]  # of both objects in each view
    # Without view 0, 1 or 2 the errors of the others are equal to within the sum: 2·.01 + .09 against 2·.09 + .01, so the first one wins.
    expected = {
        "own": np.mean([psnr[k][0] for k in range(4)]),
        "chance": np.mean(psnr),
        "best": 20.0,
        "beaten": 0.75,
    }
    assert identify.identify(identify.Lineup(sample, objects, background)) == pytest.approx(expected, rel=1e-5)


def test_true_views_identify_their_object_and_mixed_ones_do_not():
    background, rng, cameras = torch.ones(3), np.random.default_rng(0), consistency.ring(10.0, 32)[torch.tensor(consistency.FITTED)]
    renders = identify.objects_of("chair", cameras, background, 30, rng)
    truth = [identify.identify(identify.Lineup(renders[n], renders[10:], background)) for n in range(10)]
    mixed = [
        identify.identify(identify.Lineup(torch.stack([renders[(n + v) % 10, v] for v in range(4)]), renders[10:], background))
        for n in range(10)
    ]
    summary = {name: identify.summarize(rows) for name, rows in (("truth", truth), ("mixed", mixed))}
    assert summary["truth"]["beaten"]["mean"] > 0.85
    assert abs(summary["mixed"]["beaten"]["mean"] - 0.5) < 0.2
    assert summary["truth"]["own − chance"]["low"] > 1
    assert summary["truth"]["best"]["mean"] >= summary["truth"]["own"]["mean"]


@pytest.mark.filterwarnings("ignore:prompt")  # longer than the tiny tokenizer takes
def test_lineups_show_one_kind_from_the_samples_cameras(prior):
    chosen = captions.choose_captions(2, ("mug",), np.random.default_rng(0), full=True)
    sampling = consistency.Sampling(steps=1, cfg_scale=1.0, batch=2)
    drawn, true = identify.lineups(prior, chosen, [0.0, 30.0], sampling, seeded(), 3, np.random.default_rng(0))
    for caption, lineup, of_object in zip(chosen, drawn, true, strict=True):
        assert lineup.objects.shape == (3, 4, 3, 16, 16)
        assert torch.equal(lineup.objects, of_object.objects)
        assert (of_object.sample[:, :, 0, 0] - caption.color).abs().max() < 1e-5  # a render's corner is background
        assert (lineup.sample[:, :, 0, 0] - caption.color).abs().max() > 1e-2  # a random network's is not


# Pictures and speed


def test_grid_places_every_view():
    blocks = [torch.full((4, 3, 8, 8), 0.25), torch.full((4, 3, 8, 8), 0.75)]
    image = np.asarray(pictures.grid([("first", blocks), ("second", blocks)], scale=2))
    assert image.shape == (2 * (16 + CAPTION), 2 * (64 + pictures.GAP), 3)
    row = image[CAPTION + 8]
    assert abs(int(row[20, 0]) - 64) <= 1
    assert abs(int(row[-20, 0]) - 191) <= 1
    assert row[64 + pictures.GAP, 0] > 240


def test_a_timed_step_is_the_whole_step(prior):
    timing = speed.time_steps(prior, "a cat", 3.0, 0.5, 2)
    assert timing["views"] == 4
    assert timing["repetitions"] == 2
    assert all(ms > 0 for ms in timing["parts_ms"].values())
    assert timing["step_ms"] == pytest.approx(sum(timing["parts_ms"].values()), rel=0.5)
