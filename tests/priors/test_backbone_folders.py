"""Every family through one contract, and folders with one thing wrong: each is understood whole or refused in one line."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest
import tiny_pipelines as tiny
import torch
from safetensors.torch import load_file, save_file

from fsd_gs import priors
from fsd_gs.core.cameras import orbit_cameras
from fsd_gs.errors import FileFormatError
from fsd_gs.priors import LoadOptions, RunShape, backbones, mvdream_checkpoint
from fsd_gs.priors.loading import family_of

GOLDEN = Path(__file__).parent.parent / "golden" / "mvdream"
PROMPT = "a red chair"


def mvdream_pipeline():
    """The golden multi-view network with a tiny VAE and text encoder."""
    pipeline = tiny.stable_diffusion(cross_attention_dim=40)
    torch.manual_seed(3)
    official = json.loads((GOLDEN / "mvdream_tiny_unet_config.json").read_text())
    state = load_file(GOLDEN / "mvdream_tiny_official_layout.safetensors")
    pipeline.register_modules(
        text_encoder=tiny.CLIPTextModel(tiny.clip_config(40)).eval(),
        unet=mvdream_checkpoint.build_unet(state, official, torch.float32),
    )
    return pipeline


# family: how a tiny folder of it is made, or the short name of a prior that is built in; of "nano" see the fixture
FAMILIES = {
    "sd": tiny.stable_diffusion,
    "sdxl": tiny.stable_diffusion_xl,
    "sd3": lambda: tiny.stable_diffusion_3(t5=True),
    "flux": tiny.flux,
    "mvdream": mvdream_pipeline,
    "splat": "nano",
    "exact": "exact",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    made = {name: make if isinstance(make, str) else tiny.save(make(), root / name) for name, make in FAMILIES.items()}
    return made | {"nano": tiny.save_embedded_unet(root / "nano")}


def load(place, **options):
    return priors.load(place, dtype="float32", options=LoadOptions(**options), run=RunShape(views=4, image_size=16))


def test_every_family_is_under_the_contract():
    assert set(backbones.MODULES) == {*FAMILIES, "nano"}
    assert [family.name for family in backbones.families()] == list(backbones.MODULES)


@pytest.mark.parametrize("family", [*FAMILIES, "nano"])
class TestContract:
    def test_the_folder_is_recognised(self, folders, family):
        place = folders[family]
        found = backbones.built_in(place) if isinstance(place, str) else family_of(place)
        assert found is not None
        assert found.name == family

    def test_it_is_a_prior_in_3d_and_in_2d(self, folders, family):
        """Shapes, no gradient, finite, CFG affine in s unless the network takes s or draws what it says; encode and decode. Early, late."""
        prior = load(folders[family], image_size=None if family in ("nano", "splat") else 16)
        assert isinstance(prior, priors.Prior)
        cameras = orbit_cameras([0.0, 90.0, 180.0, 270.0], 10.0, width=prior.image_size)
        x_t = torch.randn(4, *prior.latent_shape, generator=torch.Generator().manual_seed(0))
        for views, t in product((cameras, None), (torch.tensor(0.8), torch.tensor(0.5))):
            text = prior.encode_text(PROMPT, "", views, torch.ones(3))
            assert text.prompt
            negative, positive = (prior.predict_noise(x_t, t, text, views, s) for s in (0.0, 1.0))
            assert positive.shape == x_t.shape
            assert positive.isfinite().all()
            assert not positive.requires_grad
            drawn = family == "splat" and views is not None and t >= prior.options.drawn_from
            if family != "flux" and not drawn:
                guided = prior.predict_noise(x_t, t, text, views, 3.0)
                torch.testing.assert_close(guided, negative + 3 * (positive - negative), rtol=1e-3, atol=1e-4)
        rgb = torch.rand(4, 3, 20, 20, requires_grad=True)
        latents = prior.encode(rgb)
        assert latents.shape == x_t.shape
        (gradient,) = torch.autograd.grad(latents.square().sum(), rgb)
        assert gradient.abs().sum() > 0
        assert prior.decode(latents.detach()).shape == (4, 3, prior.image_size, prior.image_size)


def test_calls_of_two_threads_do_not_disturb_each_other(folders):
    """A 3D and a 2D call of one multi-view network at a time: neither switches anything that the other reads."""
    prior = load(folders["mvdream"])
    cameras = orbit_cameras([0.0, 90.0, 180.0, 270.0], 10.0)
    x_t, t = torch.randn(4, *prior.latent_shape, generator=torch.Generator().manual_seed(0)), torch.tensor(0.5)
    jobs = [(cameras, prior.encode_text(PROMPT, "", cameras)), (None, prior.encode_text(PROMPT, "", None))]
    with ThreadPoolExecutor(1) as fresh:  # a thread as the two below: the first one may share its sums among another number of threads
        alone = list(fresh.map(lambda job: prior.predict_noise(x_t, t, job[1], job[0], 5.0), jobs))
    wrong = []

    def repeat(index: int) -> None:
        views, text = jobs[index]
        for _ in range(6):
            # Not bits: how many threads share a sum, and with it its order, depends on who else computes.
            if not torch.allclose(prior.predict_noise(x_t, t, text, views, 5.0), alone[index], atol=1e-5):
                wrong.append(index)

    threads = [threading.Thread(target=repeat, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (alone[0] - alone[1]).abs().max() > 1e-3
    assert not wrong


@pytest.mark.long
def test_the_multi_view_network_compiles_as_one_graph(folders):
    """No graph break in cross-view attention or in the missing camera; 3D and 2D are two graphs, each compiled once."""
    prior = load(folders["mvdream"])
    unet, graphs = prior.network, []

    def backend(module, inputs):
        graphs.append(module)
        return module.forward

    torch._dynamo.reset()
    compiled = torch.compile(unet, fullgraph=True, backend=backend)
    x, t = torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(0)), torch.full((4,), 500)
    words, numbers = torch.randn(4, 7, 40, generator=torch.Generator().manual_seed(1)), torch.eye(4).flatten().repeat(4, 1)
    with torch.no_grad():
        for _ in range(2):
            for views, labels in ((4, numbers), (1, None)):
                inputs = {"encoder_hidden_states": words, "class_labels": labels, "cross_attention_kwargs": {"views": views}}
                ours, plain = compiled(x, t, **inputs, return_dict=False)[0], unet(x, t, **inputs, return_dict=False)[0]
                torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
    assert len(graphs) == 2
    torch._dynamo.reset()


# Folders with one thing wrong


@pytest.fixture
def copy(folders, tmp_path):
    def make(family: str = "sd") -> Path:
        return Path(shutil.copytree(folders[family], tmp_path / f"copy of {family}"))

    return make


def change(folder: Path, **entries) -> None:
    """Other entries in a component's JSON; None removes one."""
    file = next(f for f in (folder / "config.json", folder / "scheduler_config.json", folder) if f.is_file())
    config = {**json.loads(file.read_text()), **entries}
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def rewrite(folder: Path, transform, name: str | None = None) -> Path:
    file = next(iter(sorted(folder.glob("*.safetensors"))))
    state = transform(load_file(file))
    target = folder / (name or file.name)
    save_file({k: v.contiguous() for k, v in state.items()}, target, metadata={"format": "pt"})
    return file


def test_weights_that_are_not_all_there(copy):
    place = copy()
    rewrite(place / "unet", lambda s: {k: v for k, v in s.items() if not k.startswith("mid_block")})
    with pytest.raises(FileFormatError, match=r"unet: its weights lack mid_block\.\S+.* and \d+ more tensors; download or save it again"):
        load(place)


@pytest.mark.parametrize("component", ["unet", "vae"])
def test_weights_that_belong_to_another_network(copy, component):
    place = copy()
    rewrite(place / component, lambda s: {**s, "control_net.weight": torch.zeros(2)})
    with pytest.raises(FileFormatError, match=rf"{component}: its weights hold, beside what the network has, control_net\.weight"):
        load(place)


def test_a_text_encoder_without_a_layer(copy):
    place = copy()
    rewrite(place / "text_encoder", lambda s: {k: v for k, v in s.items() if ".layers.0." not in k})
    with pytest.raises(FileFormatError, match=r"text_encoder: its weights lack \S*layers\.0\."):
        load(place).encode_text(PROMPT, "", None)


def test_an_empty_tokenizer(copy):
    place = copy()
    shutil.rmtree(place / "tokenizer")
    (place / "tokenizer").mkdir()
    with pytest.raises(FileFormatError, match=r"tokenizer is no tokenizer: expected tokenizer\.json or merges\.txt with vocab\.json"):
        load(place)


@pytest.mark.parametrize(
    ("component", "entries", "message"),
    [
        ("unet", {"class_embed_type": "timestep"}, "class_embed_type is timestep; expected None"),
        ("unet", {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 1024}, "class_embed_type is projection"),
        ("unet", {"num_class_embeds": 10}, "num_class_embeds is 10"),
        ("unet", {"addition_embed_type": "image"}, "addition_embed_type is image"),
        ("unet", {"encoder_hid_dim_type": "image_proj"}, "encoder_hid_dim_type is image_proj"),
        ("unet", {"attention_type": "gated"}, "attention_type is gated; expected default"),
        ("unet", {"num_heads": 8}, r"the key 'num_heads' \(8\) is not known for a UNet2DConditionModel"),
        ("unet", {"down_block_types": ["DownBlock2D", "SimpleCrossAttnDownBlock2D"]}, "down_block_types has SimpleCrossAttn"),
        ("text_encoder", {"hidden_size": 48}, "cross_attention_dim of the unet is 32, hidden_size of text_encoder 48"),
        ("unet", {"_class_name": "UNet2DModel"}, "_class_name is UNet2DModel; supported: UNet2DConditionModel"),
        ("vae", {"_class_name": "VQModel"}, "_class_name is VQModel; supported: AutoencoderKL"),
        ("vae", {"in_channels": 1}, "in_channels is 1; expected 3"),
        ("vae", {"latent_channels": 16}, "latent_channels of the vae is 16, the denoiser's latent channels 4"),
        ("vae", {"spectral": True}, "the key 'spectral'"),
        ("text_encoder", {"model_type": "t5"}, "model_type is t5; supported: clip_text_model"),
        ("text_encoder", {"rotary": 2}, "the key 'rotary'"),
        ("scheduler", {"beta_schedule": "cosine_of_next_year"}, "beta_schedule is cosine_of_next_year; expected linear or scaled_linear"),
        ("scheduler", {"_class_name": "EDMEulerScheduler"}, "_class_name is EDMEulerScheduler; supported: DDIMScheduler"),
        ("scheduler", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "_class_name is FlowMatchEulerDiscreteScheduler"),
        ("scheduler", {"prediction_type": "flow_prediction"}, "prediction_type is flow_prediction; expected epsilon"),
        ("scheduler", {"timestep_type": "continuous"}, "timestep_type is continuous"),
        ("scheduler", {"trained_betas": [0.1, "a"]}, "its betas make no schedule"),
        ("scheduler", {"num_train_timesteps": 0}, "its betas"),
    ],
)
def test_what_is_not_on_the_list_is_refused_at_loading(copy, component, entries, message):
    place = copy()
    change(place / component, **entries)
    with pytest.raises(FileFormatError, match=message) as caught:
        load(place).encode_text(PROMPT, "", None)
    assert "\n" not in str(caught.value)
    assert component in str(caught.value)


def test_harmless_entries_are_accepted(copy):
    """Null and false say "not used"; averaging leaves its own settings in a config."""
    place = copy()
    change(place / "unet", of_a_later_version=False, decay=0.9999, use_ema_warmup=True)
    change(place / "text_encoder", torchscript=False)
    assert load(place).predict_noise(torch.randn(1, 4, 8, 8), torch.tensor(0.5), load(place).encode_text(PROMPT, "", None), None, 1.0).any()


def test_betas_that_a_scheduler_leaves_out_are_its_own_defaults(copy):
    """LCM's and Heun's defaults are not DDIM's."""
    place = copy()
    (place / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": "LCMScheduler"}))
    from diffusers import LCMScheduler

    prior = load(place)
    n = torch.tensor([0, 400, 999])
    alphas = prior.schedule.alpha(prior.schedule.time(n)) ** 2
    torch.testing.assert_close(alphas.float(), LCMScheduler().alphas_cumprod[n], rtol=1e-5, atol=0)


@pytest.mark.parametrize(("taken", "given"), [(128, 64), (96, 64), (128, 128)])
def test_flux_fill_and_control_are_refused_at_loading(copy, taken, given):
    place = copy("flux")
    change(place / "transformer", in_channels=taken, out_channels=given)
    with pytest.raises(FileFormatError, match=rf"in_channels is {taken} .*expected 64, 4 × latent_channels .*Fill, Depth, Canny"):
        load(place, image_size=16)


def test_a_flow_network_with_a_diffusion_scheduler(copy):
    place = copy("sd3")
    change(place / "scheduler", _class_name="DDIMScheduler")
    with pytest.raises(FileFormatError, match="_class_name is DDIMScheduler; supported: FlowMatchEulerDiscreteScheduler"):
        load(place)


def test_an_sdxl_refiner_is_refused(copy):
    place = copy("sdxl")
    change(place / "unet", projection_class_embeddings_input_dim=32 + 5 * 8)
    with pytest.raises(FileFormatError):
        load(place)


def test_half_precision_files_beside_those_before_averaging(copy):
    """A cloned SD 1.5: .fp16 and .non_ema files only, float32 asked. The averaged weights are read."""
    place = copy()
    expected = load(place).network.state_dict()
    plain = rewrite(place / "unet", lambda s: {k: v.half() for k, v in s.items()}, "diffusion_pytorch_model.fp16.safetensors")
    rewrite(place / "unet", lambda s: {k: v + 1 for k, v in s.items()}, "diffusion_pytorch_model.non_ema.safetensors")
    plain.unlink()
    found = load(place).network.state_dict()
    assert {v.dtype for v in found.values()} == {torch.float32}
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=2e-3, atol=1e-4)


def test_sample_size_as_a_list(copy):
    place = copy()
    change(place / "unet", sample_size=[8, 8])
    assert load(place).latent_shape == (4, 8, 8)
    change(place / "unet", sample_size=[8, 16])
    with pytest.raises(FileFormatError, match=r"sample_size .* is \[8, 16\]; expected the side of a square"):
        load(place)
    assert load(place, image_size=16).latent_shape == (4, 8, 8)


@pytest.mark.parametrize("prefix", ["", "unet.", "base_model.model."])
def test_lora_with_and_without_a_prefix(folders, tmp_path, prefix):
    state = {}
    for name, module in tiny.unet().named_modules():
        if name.endswith("to_q"):
            state[f"{prefix}{name}.lora_A.weight"] = torch.full((2, module.in_features), 0.1)
            state[f"{prefix}{name}.lora_B.weight"] = torch.full((module.out_features, 2), 0.1)
    save_file(state, tmp_path / "lora.safetensors")
    plain = load(folders["sd"]).network.state_dict()
    fused = load(folders["sd"], lora=str(tmp_path / "lora.safetensors")).network.state_dict()
    changed = {name for name, value in fused.items() if not torch.allclose(value, plain[name])}
    assert changed == {name for name in plain if name.endswith("to_q.weight")}
    for name in changed:
        torch.testing.assert_close(fused[name], plain[name] + 0.02)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.gguf", r"is quantised weights \(GGUF\), which is not supported"),
        ("notes.txt", r"is a '\.txt' file, which is not supported"),
        ("model.onnx", "is an ONNX graph"),
        ("model", "is a file without a suffix"),
        ("model.pkl", "pickle checkpoints are refused"),
    ],
)
def test_files_are_called_what_they_are(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(FileFormatError, match=message) as caught:
        priors.load(tmp_path / name)
    assert ("pickle" in str(caught.value)) == name.endswith(".pkl")


def test_mvdream_on_stable_diffusion_15_is_named(tmp_path):
    """sd-v1.5-4view.pt: a good file of a network that is not supported, not an incomplete one of the network that is."""
    state = load_file(GOLDEN / "mvdream_tiny_official_layout.safetensors")
    file = tmp_path / "sd-v1.5-4view.pt"
    torch.save({k: torch.zeros(v.shape[0], 768) if k.endswith("attn2.to_k.weight") else v for k, v in state.items()}, file)
    with pytest.raises(FileFormatError, match=r"texts of width 768, as MVDream on Stable Diffusion 1\.5 does \(sd-v1\.5-4view\)"):
        priors.load(file)


def wide_mvdream(folder: Path, **entries) -> Path:
    """An MVDream folder in the original layout, twice as wide as the golden one, so that several head counts fit."""
    official = json.loads((GOLDEN / "mvdream_tiny_unet_config.json").read_text())
    wide = {}
    for name, value in load_file(GOLDEN / "mvdream_tiny_official_layout.safetensors").items():
        for axis, size in enumerate(value.shape):
            value = torch.cat([value, 0.5 * value.flip(axis)], axis) if size % 32 == 0 else value
        wide[name.removeprefix("model.diffusion_model.")] = value.contiguous()
    pipeline = tiny.stable_diffusion(cross_attention_dim=40)
    pipeline.register_modules(text_encoder=tiny.CLIPTextModel(tiny.clip_config(40)).eval())
    place = tiny.save(pipeline, folder)
    save_file(wide, place / "unet" / "diffusion_pytorch_model.safetensors")
    words = {**{k: v for k, v in official.items() if k != "num_head_channels"}, "_class_name": "MultiViewUNetModel", "model_channels": 64}
    (place / "unet" / "config.json").write_text(json.dumps({**words, **entries}))
    return place


def test_mvdream_that_counts_its_heads(tmp_path):
    """num_heads: 8 means eight heads at every level, whatever their width."""
    from diffusers import UNet2DConditionModel

    network = load(wide_mvdream(tmp_path / "counted", num_heads=8)).network
    assert list(network.config.attention_head_dim) == [8] * len(network.config.block_out_channels)
    right = UNet2DConditionModel.from_config({**network.config, "attention_head_dim": [8, 8]})
    right.load_state_dict(network.state_dict())
    draw = torch.Generator().manual_seed(0)
    x, words, camera = torch.randn(1, 4, 16, 16, generator=draw), torch.randn(1, 7, 40, generator=draw), torch.randn(1, 16, generator=draw)
    with torch.no_grad():
        expected = right.eval()(x, 400, encoder_hidden_states=words, class_labels=camera).sample
        ours = network(x, 400, encoder_hidden_states=words, class_labels=camera).sample
    assert (ours - expected).abs().max() < 1e-4 * expected.std()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"num_heads": 7}, r"num_heads is 7 .*dividing the widths \[64, 128\]"),
        ({"num_head_channels": 48}, r"num_head_channels is 48"),
        ({"num_heads": 8, "transformer_depth": 2}, "transformer_depth is 2; expected 1"),
        ({"num_heads": 8, "use_scale_shift_norm": True}, "use_scale_shift_norm is True; expected False"),
        ({"num_heads": 8, "adm_in_channels": 16}, "the key 'adm_in_channels'"),
    ],
)
def test_mvdream_configs_that_are_not_understood(tmp_path, entries, message):
    with pytest.raises(FileFormatError, match=message):
        load(wide_mvdream(tmp_path / "odd", **entries))


def test_layers_of_a_lora_that_the_network_lacks_are_named(folders, tmp_path):
    """A file for another version of a backbone: what fits is fused, the rest is said in one line; if nothing fits, it is refused."""
    state = {}
    for name, module in tiny.unet().named_modules():
        if name.endswith("attn2.to_q"):
            state |= {
                f"unet.{name}.lora_A.weight": torch.ones(2, module.in_features),
                f"unet.{name}.lora_B.weight": torch.ones(module.out_features, 2),
            }
    other = {f"unet.down_blocks.{n}.attentions.0.transformer_blocks.0.attn1.to_q": (32, 32) for n in range(5, 9)}
    lost = {f"{name}.lora_{part}.weight": torch.ones((2, 32) if part == "A" else (32, 2)) for name in other for part in "AB"}
    save_file({**state, **lost}, tmp_path / "lora.safetensors")
    fitting, count = len(state) // 2, len(state) // 2 + 4
    message = rf"lora: \S+: 4 of its {count} layers are none of this backbone's and are left out \(down_blocks\.5\.\S+, \S+, \S+, …\)"
    plain = load(folders["sd"]).network.state_dict()
    with pytest.warns(UserWarning, match=message) as caught:
        fused = load(folders["sd"], lora=str(tmp_path / "lora.safetensors")).network.state_dict()
    assert len([warning for warning in caught if "\n" in str(warning.message) or "left out" in str(warning.message)]) == 1
    assert sum(not torch.allclose(value, plain[name]) for name, value in fused.items()) == fitting
    save_file(lost, tmp_path / "lora.safetensors")
    with pytest.raises(FileFormatError, match=r"lora: \S+ (does not fit this backbone|none of its layers fit)"):
        load(folders["sd"], lora=str(tmp_path / "lora.safetensors"))
