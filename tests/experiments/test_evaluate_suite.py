"""Suites: what the YAML file means, what the shipped ones promise, and that nothing is compared on unequal terms."""

from dataclasses import replace

import pytest

from fsd_gs.errors import ConfigError, FsdGsError, InputError
from fsd_gs.experiments.evaluate import paper
from fsd_gs.experiments.evaluate.command import main, make_parser, report_name, suite_of, weights_of
from fsd_gs.experiments.evaluate.images import ImageJob, image_jobs
from fsd_gs.experiments.evaluate.suite import SUITES, common_protocol, expand, load_suite, protocol_of, suite_from_dict
from fsd_gs.train.identity import files_fingerprint


def suite(**changes):
    return suite_from_dict({"prompts": ["a chair", "a lamp"], "methods": ["sds", "fsd"], **changes})


def options(*arguments):
    return make_parser("fsd-gs evaluate").parse_intermixed_args(arguments)


def test_assets_are_the_product_prompt_by_prompt_with_axes_around_every_method():
    assets = expand(suite(axes={"noise.gamma": [0.0, 0.5]}, pairs=[{"noise.beta": [0.5, 1.0], "guidance.cfg_scale": [2.0]}]))
    labels = ["", ", noise.gamma=0.0", ", noise.gamma=0.5"]
    labels += [f", noise.beta={beta}, guidance.cfg_scale=2.0" for beta in (0.5, 1.0)]
    assert [a.label for a in assets[:10]] == [method + label for method in ("sds", "fsd") for label in labels]
    assert len(assets) == 2 * 4 * 10
    assert [a.config.prompt for a in assets] == ["a chair"] * 40 + ["a lamp"] * 40
    fsd = {a.label: a for a in assets[5:10]}
    assert fsd["fsd, noise.gamma=0.5"].config.noise.gamma == 0.5
    assert fsd["fsd, noise.gamma=0.0"].key == fsd["fsd"].key, "a value of an axis that is the default is the same asset"
    assert len({a.key for a in assets[:10]}) == 8


def test_quick_adds_to_base_merges_mappings_and_replaces_the_rest():
    spec = {"base": ["steps=300", "render.sizes=[64]"], "images": {"per_seed": 8, "steps": 50}, "seeds": [0, 1, 2, 3]}
    quick = {"base": ["steps=60"], "images": {"per_seed": 2}, "seeds": [0, 1], "axes": {"noise.beta": [0.5]}}
    values = {"prompts": ["a chair"], "methods": ["fsd"], "axes": {"noise.gamma": [0.5]}, **spec, "quick": quick}
    whole, small = suite_from_dict(values), suite_from_dict(values, quick=True)
    assert (whole.images.per_seed, whole.seeds) == (8, [0, 1, 2, 3])
    assert (small.images.per_seed, small.images.steps, small.seeds) == (2, 50, [0, 1])
    assert expand(small)[0].config.steps == 60
    assert suite(prompts=["a chair ${oc.env:HOME}", "???"]).prompts == ["a chair ${oc.env:HOME}", "???"]
    assert expand(small)[0].config.render.sizes == [64]
    assert list(small.axes) == ["noise.beta"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"promts": ["a chair"]}, "unknown key 'promts'; did you mean 'prompts'"),
        ({"quick": {"stepps": 3}}, "quick: unknown key 'stepps'"),
        ({"quick": {"base": 3}}, "quick: base: "),
        ({"quick": {"prior": "${oc.env:HOME}"}}, r"suite: quick: '\$\{…\}' is not replaced"),
        ({"scorer": {"clip": "${oc.env:HOME}"}}, r"suite: scorer.clip: '\$\{…\}' is not replaced"),
        ({"stand_ins": {"a": 1}}, "stand_ins: expected a list of texts, got dict"),
        ({"prompts": []}, "prompts: expected at least one entry"),
        ({"methods": ["fsd", "fsd"]}, "methods: expected at least one entry and none twice"),
        ({"seeds": [3]}, "seeds: expected an even number of at least 2, because CROSS-FID"),
        ({"seeds": [0, 1, 2]}, "seeds: expected an even number"),
        ({"scorer": {"kind": "clipp"}}, "unknown name 'clipp'; did you mean 'clip'"),
        ({"views": 6}, "multiple of 4"),
        ({"axes": {"noise.beta": 0.5}}, "axes.noise.beta: expected a list"),
        ({"axes": {"seed": [1, 2]}}, "give 'seeds"),
        ({"pairs": [["noise.beta"]]}, "expected settings with lists of values"),
        ({"axes": {"noise.betta": [0.5]}}, "unknown key 'noise.betta'; did you mean 'noise.beta'"),
        ({"methods": ["no-such"]}, "no file 'no-such'"),
        ({"images": {"per_sed": 1}}, "per_sed"),
        ({"baselines": ["sdss"]}, "unknown name 'sdss'"),
    ],
)
def test_mistakes_are_one_clear_line(changes, message):
    with pytest.raises(FsdGsError, match=message) as caught:
        expand(suite(**changes))
    assert "\n" not in str(caught.value)


def test_mixed_resolutions_and_cameras_are_refused(tmp_path):
    (tmp_path / "large.yaml").write_text("render: {sizes: [256]}\n")
    (tmp_path / "far.yaml").write_text("cameras: {distance: [3.0, 3.0]}\n")
    mixed = suite(methods=["fsd", str(tmp_path / "large.yaml")])
    with pytest.raises(InputError, match="mixed protocols: 'fsd' and 'large' differ in size 128 and 256"):
        common_protocol(expand(mixed), mixed)
    assert common_protocol(expand(replace(mixed, size=64)), replace(mixed, size=64)).size == 64
    far = suite(methods=["fsd", str(tmp_path / "far.yaml")])
    with pytest.raises(InputError, match=r"differ in distance 2\.2 and 3"):
        common_protocol(expand(far), far)


def test_evaluation_looks_from_an_elevation_that_training_did_not_use():
    chosen = suite()
    config = expand(chosen)[0].config
    assert protocol_of(config, chosen).elevation_deg == pytest.approx(10)
    assert protocol_of(config, replace(chosen, elevation_deg=0.0)).elevation_deg == 0
    assert len(protocol_of(config, chosen).cameras()) == 24


def test_the_key_of_an_asset_is_what_decides_it_and_nothing_else():
    asset = expand(suite())[0]
    assert replace(asset, setting=(("method", "x"),), config=replace(asset.config, output="elsewhere")).key == asset.key
    assert replace(asset, weights="retrained").key != asset.key
    assert replace(asset, config=replace(asset.config, steps=7)).key != asset.key


def test_images_depend_on_the_prior_and_its_sampler_only():
    chosen = suite()
    fsd = next(a for a in expand(chosen) if a.label == "fsd")
    job = ImageJob(fsd.config, chosen.images)
    assert ImageJob(replace(fsd.config, steps=7, noise=replace(fsd.config.noise, beta=0.5)), chosen.images).key == job.key
    assert ImageJob(fsd.config, replace(chosen.images, steps=7)).key != job.key
    assert ImageJob(replace(fsd.config, prompt="another"), chosen.images).key != job.key
    assert len(image_jobs(expand(chosen), chosen)) == 2 * 4
    assert image_jobs(expand(chosen), replace(chosen, images=replace(chosen.images, per_seed=0))) == []


# -- the shipped suites ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.parametrize("quick", [False, True])
def test_shipped_suites_are_complete(name, quick):
    chosen = replace(load_suite(name, quick=quick), prior="exact")
    assets = expand(chosen)
    common_protocol(assets, chosen)
    assert chosen.views == 24
    assert set(chosen.stand_ins) <= set(chosen.prompts)
    assert set(chosen.baselines) <= set(chosen.methods)


def test_the_paper_suite_has_the_papers_protocol():
    chosen = load_suite("paper")
    assert (len(chosen.prompts), chosen.seeds, chosen.views, chosen.scorer.kind) == (16, [0, 1, 2, 3], 24, "clip")
    assert len(chosen.stand_ins) == 9
    assert {"sds", "sds-annealed", "fsd"} <= set(chosen.methods)
    assert chosen.images.per_seed == chosen.views, "IS depends on the number of pictures"


def test_the_nano_suite_uses_the_embedded_prior_and_fits_into_an_hour_at_20_s_an_asset():
    whole, quick = load_suite("nano"), load_suite("nano", quick=True)
    assert (whole.prior, whole.scorer.kind) == ("nano", "judge")
    count = [len(expand(replace(s, prior="exact"))) for s in (whole, quick)]
    assert count[0] * 20 <= 55 * 60
    assert count[1] * 8 <= 9 * 60


def test_the_ablation_varies_every_factor_of_the_issue():
    keys = {"noise.beta", "noise.theta", "noise.kind", "schedule.kind", "noise.gamma", "guidance.cfg_scale"}
    assert set(load_suite("ablation").axes) == keys
    assert load_suite("ablation").pairs


def test_the_papers_figures_stand_beside_ours_only_where_they_may():
    chosen = load_suite("paper")
    assert {row.backbone for row in paper.paper_rows(chosen, True)} == {"Stable Diffusion"}
    assert paper.paper_rows(replace(chosen, prior="mvdream"), True)[2].cross_fid == (174.8, 44.5)
    for other, comparable, reason in (
        (chosen, False, "networks are not the paper's"),
        (replace(chosen, prior="nano"), True, "no figures for the prior 'nano'"),
        (load_suite("paper", quick=True), True, "protocol is not the paper's"),
        (replace(chosen, seeds=[0, 1]), True, "but 16 × 2 × 24"),
    ):
        assert paper.paper_rows(other, comparable) == []
        assert reason in paper.why_not(other, comparable)
    assert paper.why_not(chosen, True) == ""


# -- the command line ------------------------------------------------------------------------------------------------------


def test_the_command_line_changes_the_suite():
    words = ("--methods", "sds,fsd", "--prompts", "a chair; a b, c", "--seeds", "4,5")
    chosen = suite_of(options("--suite", "paper", "--prior", "mvdream", *words))
    assert (chosen.prior, chosen.methods, chosen.prompts, chosen.seeds) == ("mvdream", ["sds", "fsd"], ["a chair", "a b, c"], [4, 5])
    assert chosen.stand_ins == ["a chair"]
    assert chosen.baselines == ["sds"], "a baseline that is not run is none"
    assert expand(chosen)[0].config.cameras.elevation_deg == (0.0, 30.0), "the preset of the backbone comes along"
    assert suite_of(options("--scorer", "clip", "--inception", "file")).scorer.inception == "file"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "nanno"], "unknown name 'nanno'; did you mean 'nano'"),
        (["--seeds", "0"], "CROSS-FID sets one half"),
        (["--seeds", "a,b"], "--seeds: expected whole numbers"),
        (["prior.name=exact"], "use --prior"),
        (["prompt=a chair"], "use --prompts"),
        (["--suite", "ablation", "noise.beta=0.5"], "the suite itself varies it"),
        (["--suite", "ablation", "--reference-only"], "this suite has no DDIM images"),
        (["--workers", "0"], "--workers: expected at least 1"),
        (["--baselines", "ism"], "baselines: unknown name 'ism'"),
        (["--suite", "paper"], "inception: no weights given; download https://.*--inception FILE"),
    ],
)
def test_mistakes_on_the_command_line_are_found_before_any_work(arguments, message, tmp_path):
    with pytest.raises(FsdGsError, match=message) as caught:
        main([*arguments, "--output", str(tmp_path / "out")])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_changed_suite_does_not_replace_the_report_of_the_whole():
    def name(*arguments):
        given = options("--suite", "nano", "--prior", "exact", *arguments)
        chosen = suite_of(given)
        return report_name(given, chosen, expand(chosen, given.overrides))

    assert name() == "nano-exact"
    assert name("--quick") == "nano-exact-quick"
    changed = {name("--prompts", "a chair"), name("steps=3"), name("--methods", "fsd"), name("--reference-only"), name("--scorer", "clip")}
    assert len(changed) == 5
    assert all(n.startswith("nano-exact-") for n in changed)


def test_a_retrained_prior_is_another_prior(tmp_path):
    folder = tmp_path / "prior"
    (folder / "unet").mkdir(parents=True)
    weights = folder / "unet" / "model.safetensors"
    weights.write_bytes(bytes(range(256)) * 4000)
    before = weights_of(str(folder))
    assert before == files_fingerprint(folder)
    content = bytearray(weights.read_bytes())
    for i in range(0, len(content), 97):  # training moves every tensor
        content[i] ^= 1
    weights.write_bytes(bytes(content))
    assert weights_of(str(folder)) != before
    assert weights_of("sd21") == ""


def test_config_errors_of_overrides_are_kept():
    with pytest.raises(ConfigError, match="unknown key 'stepss'"):
        expand(suite(), ["stepss=3"])
