"""ControlNets in our priors against diffusers' own pipelines, on tiny random networks; what they are shown, and what is refused."""

import json
import shutil

import pytest
import tiny_adapters
import tiny_pipelines as tiny
import torch
import trimesh
from diffusers import StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline
from PIL import Image

import fsd_gs
from fsd_gs import image2d, priors
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.core.types import Geometry
from fsd_gs.errors import ConfigError, FileFormatError, FsdGsError, InputError
from fsd_gs.guidance.base import Noised
from fsd_gs.priors import LoadOptions
from fsd_gs.priors.base import ControlledPrior
from fsd_gs.priors.control import camera_normals, depth_picture, normal_picture
from fsd_gs.priors.prompts import PerpNeg
from fsd_gs.train.control import mesh_geometry, read_mesh

SLOW = pytest.mark.slow  # the same property of another pipeline stays
PROMPT, NEGATIVE, STRENGTH = "a red chair", "blurry", 0.7
PIPELINES = {
    "sd": (tiny.stable_diffusion, StableDiffusionControlNetPipeline),
    "sdxl": (tiny.stable_diffusion_xl, StableDiffusionXLControlNetPipeline),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("control")
    tiny_adapters.photo(root / "photo.png")
    trimesh.creation.icosphere(subdivisions=4, radius=2.0).export(root / "ball.ply")
    for name, (make, _) in PIPELINES.items():
        pipeline = make()
        tiny.save(pipeline, root / name)
        tiny_adapters.controlnet(pipeline.unet).save_pretrained(root / f"{name}-control")
        tiny_adapters.save_ip_adapter(root / f"{name}-image", pipeline.unet)
    return root


def controlled(root, name="sd", **settings):
    return LoadOptions(**{"control": "depth", "control_scale": STRENGTH, "controlnet": str(root / f"{name}-control"), **settings})


def beside(root, name):
    return {"image": str(root / "photo.png"), "image_scale": 0.6, "ip_adapter": str(root / f"{name}-image" / "adapter.safetensors")}


@pytest.mark.parametrize("scale", [1.0, 7.5])
@pytest.mark.parametrize(
    ("name", "image"), [("sd", False), pytest.param("sd", True, marks=SLOW), pytest.param("sdxl", False, marks=SLOW), ("sdxl", True)]
)
def test_predictions_and_latents_equal_the_pipelines(root, name, image, scale):
    make, controlled_pipeline = PIPELINES[name]
    plain = make()
    pipeline = controlled_pipeline(
        **plain.components, controlnet=tiny_adapters.controlnet(plain.unet), **({"requires_safety_checker": False} if name == "sd" else {})
    )
    given = {}
    if image:
        pipeline.load_ip_adapter(root / f"{name}-image", subfolder="", weight_name="adapter.safetensors", low_cpu_mem_usage=False)
        pipeline.set_ip_adapter_scale(0.6)
        given = {"ip_adapter_image": Image.open(root / "photo.png")}
    seen = tiny.recorded(pipeline)
    noise, picture = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.rand(1, 3, 16, 16)
    common = {"height": 16, "width": 16, "output_type": "latent", "num_inference_steps": 4, "guidance_scale": scale}
    expected = pipeline(
        PROMPT, image=picture, negative_prompt=NEGATIVE, latents=noise.clone(), controlnet_conditioning_scale=STRENGTH, **given, **common
    ).images

    prior = priors.load(root / name, options=controlled(root, name, **(beside(root, name) if image else {})))
    assert isinstance(prior, ControlledPrior)
    text = prior.with_control(prior.encode_text(PROMPT, NEGATIVE, None), picture)
    other = prior.with_control(text, 1 - picture)
    assert len(seen) == 4
    for x_t, n, output in seen:
        t = prior.schedule.time(n)
        torch.testing.assert_close(prior.predict_noise(x_t, t, text, None, scale), output, rtol=1e-4, atol=1e-5)
        assert (prior.predict_noise(x_t, t, other, None, scale) - output).abs().max() > 1e-3, "what it is shown changes nothing"
    make_one = {"noise": noise, "steps": 4, "cfg_scale": scale, "negative_prompt": NEGATIVE, "control": picture}
    assert (image2d.generate(prior, PROMPT, **make_one).latents - expected).abs().max() < 1e-4


@pytest.mark.long
def test_strength_zero_is_the_prompt_alone_and_calls_do_not_disturb_each_other(root):
    plain, off, on = priors.load(root / "sd"), *(priors.load(root / "sd", options=controlled(root, control_scale=s)) for s in (0.0, 1.0))
    x, t, picture = torch.randn(2, 4, 8, 8), torch.tensor(0.5), torch.rand(2, 3, 16, 16)
    expected = plain.predict_noise(x, t, plain.encode_text(PROMPT, "", None), None, 5.0)
    shown = off.with_control(off.encode_text(PROMPT, "", None), picture)
    torch.testing.assert_close(off.predict_noise(x, t, shown, None, 5.0), expected)
    shown = on.with_control(on.encode_text(PROMPT, "", None), picture)
    first = on.predict_noise(x, t, shown, None, 5.0)
    on.predict_noise(x, t, on.with_control(shown, 1 - picture), None, 1.0)
    assert torch.equal(on.predict_noise(x, t, shown, None, 5.0), first)


def test_views_perp_neg_another_negative_and_a_trainable_twin_are_shown_the_same(root):
    prior = priors.load(root / "sd", options=controlled(root, perp_neg=PerpNeg()))
    cameras, x, picture, t = orbit_cameras([0, 100, 200], 15.0), torch.randn(3, 4, 8, 8), torch.rand(3, 3, 16, 16), torch.tensor(0.5)
    text = prior.with_control(prior.encode_text(PROMPT, NEGATIVE, cameras), picture)
    together = prior.predict_noise(x, t, text, cameras, 5.0)
    one = prior.with_control(prior.encode_text(PROMPT, NEGATIVE, cameras[1:2]), picture[1:2])
    torch.testing.assert_close(prior.predict_noise(x[1:2], t, one, cameras[1:2], 5.0)[0], together[1], rtol=1e-4, atol=1e-5)
    batch = Noised(prior, x, torch.randn(3, 4, 8, 8), t, text, cameras).with_negative("")
    assert torch.equal(batch.text.control, picture)
    assert batch.noise(5.0).isfinite().all()
    prior.add_lora(2, torch.Generator().manual_seed(0))
    trained = prior.predict_noise_trainable(x, t, text, cameras)
    torch.testing.assert_close(trained.detach(), prior.predict_noise(x, t, text, cameras, 1.0), rtol=1e-5, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "kind", "mesh"),
    [
        ("sd", "depth", False),
        ("sd", "normal", True),
        *(pytest.param("sdxl", *rest, marks=SLOW) for rest in (("depth", True), ("normal", False))),
    ],
)
def test_three_steps_in_3d_by_settings(root, name, kind, mesh):
    settings = ["steps=3", "cameras.views=2", "render.sizes=[16]", "splats.count=40", "guidance.cfg_scale=7.5", "guidance.weight=one"]
    control = [f"prior.name={root / name}", f"prior.control={kind}", f"prior.controlnet={root / f'{name}-control'}"]
    control += [f"prior.control_mesh={root / 'ball.ply'}"] if mesh else []
    shown = fsd_gs.generate(PROMPT, overrides=[*settings, *control])
    without = fsd_gs.generate(PROMPT, overrides=[*settings, control[0]])
    assert shown.splats.means.isfinite().all()
    assert not torch.equal(shown.splats.sh, without.splats.sh)


# ----------------------------------------------------------------------------------------------------------------------- pictures


def ball_seen(size=64, radius=0.5, distance=2.0):
    """The exact depth of a ball at the origin, its normals in the camera's axes and its coverage, from the front."""
    cameras = orbit_cameras([0.0], 0.0, distance=distance, fov_y_deg=40.0, width=size)
    focal = cameras.Ks[0, 0, 0]
    v, u = torch.meshgrid(*(torch.arange(size) + 0.5 - size / 2,) * 2, indexing="ij")
    rays = torch.stack([u / focal, v / focal, torch.ones_like(u)])
    squared, along = (rays**2).sum(0), rays[2] * distance
    inside = along**2 - squared * (distance**2 - radius**2)
    hit = inside > 0
    depth = torch.where(hit, (along - inside.clamp_min(0).sqrt()) / squared, 0.0)
    normals = (rays * depth - torch.tensor([0, 0, distance]).view(3, 1, 1)) / radius
    return Geometry(cameras, depth[None, ..., None], hit.float()[None, ..., None]), normals * hit


def test_normals_of_a_ball():
    geometry, exact = ball_seen()
    seen = camera_normals(geometry.depth, geometry.alpha, geometry.cameras)[0]
    there = geometry.alpha[0, ..., 0] > 0
    angles = torch.rad2deg(torch.arccos((seen * exact).sum(0).clamp(-1, 1)))[there]
    assert angles.median() < 1.0
    assert angles.max() < 40, "one-sided at the rim, where the surface turns away"
    empty = normal_picture(geometry)[0][:, ~there]
    torch.testing.assert_close(empty, torch.tensor([0.5, 0.5, 1.0])[:, None].expand_as(empty))


def test_conventions_of_the_pictures():
    """Depth: near is white, nothing is black. Normals: blue is front, red is left, green is top."""
    geometry, _ = ball_seen()
    depth, normal = depth_picture(geometry)[0], normal_picture(geometry)[0]
    assert torch.equal(depth[0], depth[1])
    assert (depth.min(), depth.max()) == (0, 1)
    middle = 32
    assert depth[0, middle, middle] > 0.999
    assert depth[0, 0, 0] == 0
    z = geometry.depth[0, ..., 0]
    torch.testing.assert_close(depth[0][z > 0], z[z > 0].min() / z[z > 0], msg="inverse depth, and its zero is infinitely far")
    left, right, top, bottom = normal[:, middle, 20], normal[:, middle, 43], normal[:, 20, middle], normal[:, 43, middle]
    assert left[0] > 0.65
    assert right[0] < 0.35
    assert top[1] > 0.65
    assert bottom[1] < 0.35
    torch.testing.assert_close(normal[:, middle, middle], torch.tensor([0.5, 0.5, 1.0]), atol=0.03, rtol=0)
    torch.testing.assert_close(normal[:, 0, 0], torch.tensor([0.5, 0.5, 1.0]))


def test_pictures_of_nothing_are_finite():
    geometry, _ = ball_seen(8)
    nothing = Geometry(geometry.cameras, torch.zeros(1, 8, 8, 1), torch.zeros(1, 8, 8, 1))
    assert not depth_picture(nothing).any()
    torch.testing.assert_close(normal_picture(nothing), torch.tensor([0.5, 0.5, 1.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8))


def test_a_mesh_stands_where_the_splats_of_it_would(root):
    mesh = read_mesh(root / "ball.ply", 0.5)
    assert float(abs(mesh.vertices).max()) == pytest.approx(0.5, abs=1e-3)
    exact, _ = ball_seen()
    seen = mesh_geometry(mesh, exact.cameras)
    solid = (exact.alpha > 0) & (seen.alpha == 1)
    assert (seen.depth - exact.depth)[solid].abs().median() < 2e-3
    assert (depth_picture(seen) - depth_picture(exact)).abs().mean() < 0.02
    assert (normal_picture(seen) - normal_picture(exact)).abs().mean() < 0.02


# ------------------------------------------------------------------------------------------------------------------------ refusals


def refused(root, message, error=FileFormatError, name="sd", **settings):
    with pytest.raises(error, match=message) as caught:
        priors.load(root / name, options=controlled(root, **settings))
    assert isinstance(caught.value, FsdGsError)
    assert "\n" not in str(caught.value)


def test_controlnets_that_do_not_fit(root, tmp_path):
    refused(
        root,
        r"sdxl-control: its cross_attention_dim is 64, this model's is 32; take one that was trained",
        controlnet=str(root / "sdxl-control"),
    )
    refused(root, r"prior\.controlnet: no file or folder '\S+nowhere'", controlnet=str(tmp_path / "nowhere"))
    refused(root, r"_class_name is AutoencoderKL; supported: ControlNetModel", controlnet=str(root / "sd" / "vae"))
    refused(root, r"holds no config\.json; expected a folder", controlnet=str(tmp_path))
    tiny_adapters.controlnet(tiny.unet(), stages=(8, 8, 8)).save_pretrained(tmp_path / "coarse")
    refused(root, r"coarse reads 4 pixels a latent cell, this model's VAE has 2", controlnet=str(tmp_path / "coarse"))
    copy = shutil.copytree(root / "sd-control", tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "global_pool_conditions": True}))
    refused(root, r"global_pool_conditions is True; expected False", controlnet=str(copy))
    (copy / "config.json").write_text(json.dumps(config))
    torch.save({}, copy / "diffusion_pytorch_model.bin")
    (copy / "diffusion_pytorch_model.safetensors").unlink()
    refused(root, r"only pickle weights \(diffusion_pytorch_model\.bin\)", controlnet=str(copy))


def test_models_without_a_published_one_and_settings_that_say_half(root):
    message = r"no published ControlNet for depth, cross-attention 32 wide, is known \(known: depth of width 768, normal of width 768\)"
    refused(root, message, ConfigError, controlnet=None)
    with pytest.raises(ConfigError, match=r"controlnet: say what it is shown as well: control=depth or control=normal"):
        LoadOptions(controlnet="somewhere")
    with pytest.raises(ConfigError, match=r"unknown name 'edges'"):
        LoadOptions(control="edges")


def test_other_families_say_which_take_one(root, tmp_path):
    for name, place in (("splat", "nano"), ("exact", "exact"), ("flux", tiny.save(tiny.flux(), tmp_path / "flux"))):
        with pytest.raises(
            ConfigError, match=rf"prior\.control: a prior of the family '{name}' takes no ControlNet; those of sdxl and sd do"
        ):
            priors.load(place, options=LoadOptions(control="depth"))


def test_a_controlled_prior_that_is_shown_nothing_says_how(root):
    prior = priors.load(root / "sd", options=controlled(root))
    with pytest.raises(InputError, match=r"this prior has a ControlNet, which was shown nothing: .*control=picture"):
        image2d.generate(prior, PROMPT, steps=2)
    with pytest.raises(InputError, match=r"control: expected shape \[B, 3, 16, 16\], got \[1, 3, 8, 8\]"):
        image2d.generate(prior, PROMPT, steps=2, control=torch.rand(1, 3, 8, 8))
    with pytest.raises(InputError, match=r"control: this prior has no ControlNet; load it with prior\.control"):
        image2d.generate(priors.load(root / "sd"), PROMPT, steps=2, control=torch.rand(1, 3, 16, 16))


def test_meshes_that_are_none(root, tmp_path):
    with pytest.raises(FileFormatError, match=r"prior\.control_mesh: \S+none\.glb is no file; expected a mesh \(\.glb"):
        read_mesh(tmp_path / "none.glb", 0.5)
    with pytest.raises(FileFormatError, match=r"prior\.control_mesh: \S+photo\.png is a '\.png' file"):
        read_mesh(root / "photo.png", 0.5)
    (tmp_path / "broken.obj").write_text("v 0 0\nf 1 2 3\n")
    with pytest.raises(FileFormatError):
        read_mesh(tmp_path / "broken.obj", 0.5)
