"""Image prompts: IP-Adapters in our priors against diffusers' own pipelines, on tiny random networks; and what is refused."""

import re
import shutil

import pytest
import tiny_adapters
import tiny_pipelines as tiny
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import fsd_gs
from fsd_gs import image2d, priors
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.errors import ConfigError, FileFormatError, FsdGsError
from fsd_gs.priors import LoadOptions
from fsd_gs.priors.prompts import PerpNeg

PROMPT, NEGATIVE, STRENGTH = "a red chair", "blurry", 0.6
PIPELINES = {"sd": tiny.stable_diffusion, "sdxl": tiny.stable_diffusion_xl}
CASES = [("sd", "plain"), ("sd", "plus"), ("sdxl", "plain")]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    tiny_adapters.photo(root / "photo.png")
    for name, make in PIPELINES.items():
        pipeline = make()
        tiny.save(pipeline, root / name)
        for kind in ("plain", "plus"):
            tiny_adapters.save_ip_adapter(root / f"{name}-{kind}", pipeline.unet, kind)
    return root


def with_image(root, name="sd", kind="plain", **settings):
    given = {"image": str(root / "photo.png"), "image_scale": STRENGTH, "ip_adapter": str(root / f"{name}-{kind}" / "adapter.safetensors")}
    return LoadOptions(**{**given, **settings})


@pytest.mark.parametrize("scale", [1.0, 7.5])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_predictions_and_latents_equal_the_pipelines(root, name, kind, scale):
    pipeline = PIPELINES[name]()
    pipeline.load_ip_adapter(root / f"{name}-{kind}", subfolder="", weight_name="adapter.safetensors", low_cpu_mem_usage=False)
    pipeline.set_ip_adapter_scale(STRENGTH)
    seen = tiny.recorded(pipeline)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    picture = Image.open(root / "photo.png")
    common = {"height": 16, "width": 16, "output_type": "latent", "num_inference_steps": 4, "guidance_scale": scale}
    expected = pipeline(PROMPT, negative_prompt=NEGATIVE, latents=noise.clone(), ip_adapter_image=picture, **common).images

    prior = priors.load(root / name, options=with_image(root, name, kind))
    text = prior.encode_text(PROMPT, NEGATIVE, None)
    plain = priors.load(root / name)
    assert len(seen) == 4
    for x_t, n, output in seen:
        t = prior.schedule.time(n)
        torch.testing.assert_close(prior.predict_noise(x_t, t, text, None, scale), output, rtol=1e-4, atol=1e-5)
        without = plain.predict_noise(x_t, t, plain.encode_text(PROMPT, NEGATIVE, None), None, scale)
        assert (without - output).abs().max() > 1e-3, "the picture changes nothing"
    ours = image2d.generate(prior, PROMPT, noise=noise, steps=4, cfg_scale=scale, negative_prompt=NEGATIVE).latents
    assert (ours - expected).abs().max() < 1e-4


def test_strength_zero_is_the_prompt_alone_and_the_negative_sees_no_picture(root):
    plain, off, on = (priors.load(root / "sd", options=o) for o in (None, with_image(root, image_scale=0.0), with_image(root)))
    x, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor(0.5)
    for scale in (0.0, 1.0, 5.0):
        expected = plain.predict_noise(x, t, plain.encode_text(PROMPT, "", None), None, scale)
        torch.testing.assert_close(off.predict_noise(x, t, off.encode_text(PROMPT, "", None), None, scale), expected)
    text = on.encode_text(PROMPT, "", None)
    assert not text.negative.image.any()
    assert text.positive.image.any()


def test_views_perp_neg_and_a_trainable_twin_see_the_picture(root):
    prior = priors.load(root / "sd", options=with_image(root, perp_neg=PerpNeg()))
    cameras, x = orbit_cameras([0, 100, 200], 15.0), torch.randn(3, 4, 8, 8)
    text = prior.encode_text(PROMPT, "", cameras)
    together = prior.predict_noise(x, torch.tensor(0.5), text, cameras, 5.0)
    one = prior.encode_text(PROMPT, "", cameras[1:2])
    torch.testing.assert_close(prior.predict_noise(x[1:2], torch.tensor(0.5), one, cameras[1:2], 5.0)[0], together[1], rtol=1e-4, atol=1e-5)
    prior.add_lora(2, torch.Generator().manual_seed(0))
    trained = prior.predict_noise_trainable(x, torch.tensor(0.5), text, cameras)
    torch.testing.assert_close(trained.detach(), prior.predict_noise(x, torch.tensor(0.5), text, cameras, 1.0), rtol=1e-5, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("name", ["sd", pytest.param("sdxl", marks=pytest.mark.slow)])
def test_three_steps_in_3d_by_settings(root, name, tmp_path):
    settings = ["steps=3", "cameras.views=2", "render.sizes=[16]", "splats.count=40", "guidance.cfg_scale=7.5", "guidance.weight=one"]
    adapter = root / f"{name}-plain" / "adapter.safetensors"
    image = [f"prior.name={root / name}", f"prior.image={root / 'photo.png'}", f"prior.ip_adapter={adapter}"]
    with_picture = fsd_gs.generate(PROMPT, overrides=[*settings, *image])
    without = fsd_gs.generate(PROMPT, overrides=[*settings, image[0]])
    assert with_picture.splats.means.isfinite().all()
    assert not torch.equal(with_picture.splats.sh, without.splats.sh)


def refused(root, message, error=FileFormatError, name="sd", **settings):
    with pytest.raises(error, match=message) as caught:
        priors.load(root / name, options=with_image(root, **settings))
    assert isinstance(caught.value, FsdGsError)
    assert "\n" not in str(caught.value)


def test_pictures_that_are_none(root, tmp_path):
    refused(root, r"prior\.image: no file '\S+/none\.png'", image=str(tmp_path / "none.png"))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes((root / "photo.png").read_bytes()[:200])
    for file in ("text.png", "cut.png"):
        refused(root, rf"prior\.image: \S+{file} is no picture that can be read", image=str(tmp_path / file))


def test_transparent_pictures_stand_on_white_and_exif_turns_them(root, tmp_path):
    from fsd_gs.priors.image_prompt import read_picture

    cutout = Image.new("RGBA", (4, 4), (200, 10, 10, 0))
    cutout.putpixel((0, 0), (200, 10, 10, 255))
    cutout.save(tmp_path / "cutout.png")
    picture = read_picture(str(tmp_path / "cutout.png"))
    assert (picture.mode, picture.getpixel((0, 0)), picture.getpixel((3, 3))) == ("RGB", (200, 10, 10), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_picture(str(tmp_path / "turned.jpg")).size == (4, 8)


def test_adapters_that_do_not_fit(root, tmp_path):
    good = load_file(root / "sd-plain" / "adapter.safetensors")
    shutil.copytree(root / "sd-plain" / "image_encoder", tmp_path / "image_encoder")

    def changed(state, message):
        save_file(state, tmp_path / "other.safetensors")
        refused(root, message, ip_adapter=str(tmp_path / "other.safetensors"))

    refused(
        root,
        r"adapter\.safetensors is for a cross-attention 64 wide, this model's is 32",
        ip_adapter=str(root / "sdxl-plain" / "adapter.safetensors"),
    )
    torch.save(good, tmp_path / "ip-adapter.bin")
    refused(root, r"ip-adapter\.bin is a pickle, which can run code", ip_adapter=str(tmp_path / "ip-adapter.bin"))
    refused(root, r"prior\.ip_adapter: no file or folder '\S+none\.safetensors'", ip_adapter=str(tmp_path / "none.safetensors"))
    (tmp_path / "broken.safetensors").write_bytes(b"\x00" * 64)
    refused(root, r"is not a readable safetensors file", ip_adapter=str(tmp_path / "broken.safetensors"))
    refused(root, r"is a folder; give the \.safetensors file in it", ip_adapter=str(tmp_path))
    changed({"unet.conv_in.weight": torch.zeros(1)}, r"is no IP-Adapter: expected tensors image_proj\.\* and ip_adapter\.\*, found unet")
    changed({k: v for k, v in good.items() if ".1.to_k" not in k}, r"does not fit this UNet: 1\.to_k_ip\.weight is missing, expected")
    changed({**good, "ip_adapter.99.to_k_ip.weight": torch.zeros(3, 32)}, r"99\.to_k_ip\.weight is \(3, 32\), expected none")
    changed(
        {k: v for k, v in good.items() if k != "image_proj.norm.weight"}, r"does not fit this UNet \(.*norm\.weight.*\); download it again"
    )
    face = {("image_proj.proj.0.weight" if "proj.weight" in k else k): v for k, v in good.items()}
    changed(face, r"is a FaceID adapter, which reads embeddings of faces")


def test_image_encoders_that_do_not_fit(root, tmp_path):
    tiny_adapters.image_encoder(projected=20).save_pretrained(tmp_path / "narrow")
    refused(root, r"narrow gives embeddings 20 wide, adapter\.safetensors reads 24", image_encoder=str(tmp_path / "narrow"))
    shutil.copy(root / "sd-plain" / "adapter.safetensors", tmp_path / "alone.safetensors")
    refused(root, r"prior\.image_encoder: \S+image_encoder is missing; name the folder", ip_adapter=str(tmp_path / "alone.safetensors"))
    holed = shutil.copytree(root / "sd-plain" / "image_encoder", tmp_path / "holed")
    state = load_file(holed / "model.safetensors")
    save_file({k: v for k, v in state.items() if "layers.1.mlp.fc1" not in k}, holed / "model.safetensors", metadata={"format": "pt"})
    refused(root, r"holed: its weights lack \S+layers\.1\.mlp\.fc1", image_encoder=str(holed))
    refused(root, r"model_type is clip_text_model; supported: clip_vision_model", image_encoder=str(root / "sd" / "text_encoder"))
    priors.load(
        root / "sd",
        options=with_image(root, ip_adapter=str(tmp_path / "alone.safetensors"), image_encoder=str(root / "sd-plain" / "image_encoder")),
    )


def test_models_without_a_published_adapter_say_so(root):
    refused(
        root,
        r"prior\.ip_adapter: no published IP-Adapter for a cross-attention 32 wide is known \(known: 768\)",
        ConfigError,
        ip_adapter=None,
    )


def test_other_families_say_which_take_a_picture(root, tmp_path):
    able = r"takes no image prompt; those of sdxl and sd do \(sdxl, sdxl-turbo, sd15, .*folders like them\)"
    for name, place in (("splat", "nano"), ("exact", "exact"), ("flux", tiny.save(tiny.flux(), tmp_path / "flux"))):
        with pytest.raises(ConfigError, match=rf"prior\.image: a prior of the family '{name}' {able}"):
            priors.load(place, options=LoadOptions(image=str(root / "photo.png")))


def test_hub_parts_offline_are_one_line(root, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(
        root,
        re.escape("prior.ip_adapter: 'h94/IP-Adapter/models/ip-adapter_sd15.safetensors' is neither a local path nor in the local cache"),
        FsdGsError,
        ip_adapter="h94/IP-Adapter/models/ip-adapter_sd15.safetensors",
    )
    refused(root, r"ip-adapter_sd15\.bin is a pickle", ip_adapter="h94/IP-Adapter/models/ip-adapter_sd15.bin")
