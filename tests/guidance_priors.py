"""Priors whose scores are known in closed form, and a tiny random UNet: what the guidance and 2D tests are measured against."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fsd_gs.core.types import TextCondition
from fsd_gs.priors.schedule import DiscreteSchedule, FlowSchedule, combine_cfg, noise_from_v


@dataclass(frozen=True)
class Words(TextCondition):
    """The means that a prompt and a negative prompt stand for."""

    positive: float = 0.0
    negative: float = 0.0


MEANING = {"": 0.0, "red": 2.0, "dull": -1.0}


class GaussianPrior:
    """Data N(m(word), s²) in every coordinate: ε_φ = σ (x_t − α m)/(α² s² + σ²), exactly."""

    image_size = 4
    views = 1

    def __init__(self, latent_shape=(2, 3, 3), deviation=0.5, schedule=None):
        self.latent_shape, self.deviation = latent_shape, deviation
        self.schedule = schedule or DiscreteSchedule.scaled_linear()
        self.calls = []

    def encode_text(self, prompt, negative_prompt, cameras, background=None):
        return Words(prompt, negative_prompt, MEANING.get(prompt, 3.0), MEANING.get(negative_prompt, -3.0))

    def encode(self, rgb):
        return rgb

    def decode(self, latents):
        return latents.clamp(0, 1)

    def score_noise(self, x_t, t, mean):
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return sigma * (x_t - alpha * mean) / (alpha**2 * self.deviation**2 + sigma**2)

    def predict_noise(self, latents_t, t, text, cameras, cfg_scale):
        self.calls.append((float(t), cfg_scale))
        return combine_cfg(self.score_noise(latents_t, t, text.negative), self.score_noise(latents_t, t, text.positive), cfg_scale)


class GaussianFlowPrior(GaussianPrior):
    """The same data seen by a flow: u = E[ε − x_0 | x_t], finite at t = 0 and t = 1."""

    def __init__(self, latent_shape=(2, 3, 3), deviation=0.5):
        super().__init__(latent_shape, deviation, FlowSchedule())

    def velocity(self, x_t, t, mean):
        residual = (x_t - (1 - t) * mean) / ((1 - t) ** 2 * self.deviation**2 + t**2)
        return t * residual - mean - (1 - t) * self.deviation**2 * residual

    def predict_velocity(self, latents_t, t, text, cameras, cfg_scale):
        self.calls.append((float(t), cfg_scale))
        return combine_cfg(self.velocity(latents_t, t, text.negative), self.velocity(latents_t, t, text.positive), cfg_scale)


class LoraGaussianPrior(GaussianPrior):
    """A Gaussian prior whose second copy is a small network with real peft adapters: ε_lora = ε_φ + W x_t, W = 0 before LoRA."""

    def add_lora(self, rank, generator):
        from peft import LoraConfig, inject_adapter_in_model

        linear = torch.nn.Linear(self.latent_shape[-1], self.latent_shape[-1], bias=False)
        torch.nn.init.zeros_(linear.weight)
        self.extra = inject_adapter_in_model(LoraConfig(r=rank, target_modules=["0"]), torch.nn.Sequential(linear)).double()
        parameters = [p for name, p in self.extra.named_parameters() if "lora" in name]
        with torch.no_grad():
            for name, p in self.extra.named_parameters():
                if "lora_A" in name:
                    p.copy_(0.3 * torch.randn(p.shape, generator=generator))
        return parameters

    def predict_noise_trainable(self, latents_t, t, text, cameras):
        return self.predict_noise(latents_t, t, text, cameras, 1.0) + self.extra(latents_t)

    predict_noise_differentiable = GaussianPrior.predict_noise


class TinyUNetPrior:
    """A random UNet2DConditionModel of diffusers, ε- or v-prediction, with two random prompts."""

    image_size = 8
    views = 1
    latent_shape = (4, 8, 8)

    def __init__(self, prediction_type: str, dtype: torch.dtype, alphas_cumprod: Tensor) -> None:
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.unet = UNet2DConditionModel(
                sample_size=8, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=8,
                attention_head_dim=4, norm_num_groups=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            ).to(dtype).eval()  # fmt: skip
            self.embeddings = torch.randn(2, 3, 8).to(dtype)
        self.prediction_type = prediction_type
        self.schedule = DiscreteSchedule(alphas_cumprod)

    def encode_text(self, prompt, negative_prompt, cameras, background=None):
        return TextCondition(prompt, negative_prompt)

    def encode(self, rgb):
        return rgb

    def decode(self, latents):
        return latents[:, :3]

    def network(self, x_t: Tensor, index: Tensor, row: int) -> Tensor:
        return self.unet(x_t, index, encoder_hidden_states=self.embeddings[row].expand(len(x_t), -1, -1)).sample

    def predict_noise(self, latents_t, t, text, cameras, cfg_scale):
        with torch.no_grad():
            index = self.schedule.index(t)
            output = combine_cfg(self.network(latents_t, index, 0), self.network(latents_t, index, 1), cfg_scale)
        if self.prediction_type == "epsilon":
            return output
        return noise_from_v(output, latents_t, self.schedule.alpha(t), self.schedule.sigma(t))
