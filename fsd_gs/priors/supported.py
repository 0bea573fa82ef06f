"""What a config of a pipeline folder may say: an allow-list for each kind of component, so that nothing is silently ignored.

The libraries build a network from its config and drop the keys they do not know; some of those change what the network computes
(``num_heads`` of another code base), others ask for an input that nobody here gives (class labels, image embeddings). So a config is
accepted only if each of its entries is known:

    free      any value: it shapes the network, which is called in the same way whatever it says
    fixed     one of the values that are listed, each understood by the loader
    unknown   nothing but null, false and an empty list: "not used"
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fsd_gs.errors import FileFormatError

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Rules:
    """The allow-list of one component.

    Attributes:
        classes: Accepted values of ``_class_name`` (``model_type`` for transformers' models).
        free: Keys of any value.
        fixed: Keys with the accepted values; the first stands for an absent key.
    """

    classes: tuple[str, ...]
    free: frozenset[str]
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def allow(self, **fixed: tuple[Any, ...]) -> Rules:
        """These rules with other values of some keys."""
        return replace(self, free=self.free - fixed.keys(), fixed={**self.fixed, **fixed})


def check(place: str, config: Config, rules: Rules, *, class_key: str = "_class_name") -> None:
    """Refuse a config that says what ``rules`` do not list.

    Args:
        place: The folder and component, for the message.
        config: The component's config.json.
        rules: What is supported.
        class_key: Where the config names its class.

    Raises:
        FileFormatError: With the key, what it says, and what is supported.
    """
    name = config.get(class_key)
    if name not in rules.classes:
        raise FileFormatError(f"prior: {place}: {class_key} is {name}; supported: {', '.join(rules.classes)}")
    for key, value in config.items():
        if key.startswith("_") or key == class_key or key in rules.free:
            continue
        if key in rules.fixed:
            _require(place, key, value, rules.fixed[key])
        elif value not in (None, False, [], {}):
            raise FileFormatError(
                f"prior: {place}: the key '{key}' ({value}) is not known for a {name}; it may change what the network computes, so the "
                "model is not loaded. Save it with a current version of its library, or delete the key if you know that it has no effect"
            )


def _require(place: str, key: str, value: Any, accepted: Collection[Any]) -> None:
    if value is None and None not in accepted:
        return  # absent and null are the library's default
    if not any(_same(value, other) for other in accepted):
        wanted = " or ".join(str(v) for v in accepted)
        raise FileFormatError(f"prior: {place}: {key} is {value}; expected {wanted}. Use a plain text-to-image model of this family")


def _same(value: Any, other: Any) -> bool:
    """Equal, and not because True == 1."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def require_sizes(place: str, **sizes: Any) -> None:
    """Refuse a config without one of these positive whole numbers (or lists of them), whose absence would mean another network."""
    for key, value in sizes.items():
        numbers = value if isinstance(value, list | tuple) else [value]
        if not numbers or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in numbers):
            raise FileFormatError(f"prior: {place}: {key} is {value}; expected a positive whole number (or a list of them)")


# diffusers' EMAModel leaves its own settings in the config of the network it averaged.
_LEFT_BY_AVERAGING = frozenset(
    ("decay", "inv_gamma", "min_decay", "min_value", "optimization_step", "power", "update_after_step", "use_ema_warmup")
)
BLOCKS_DOWN = ("DownBlock2D", "CrossAttnDownBlock2D")
BLOCKS_UP = ("UpBlock2D", "CrossAttnUpBlock2D")

UNET = Rules(
    classes=("UNet2DConditionModel",),
    free=_LEFT_BY_AVERAGING
    | frozenset(
        (
            "sample_size", "in_channels", "out_channels", "block_out_channels", "layers_per_block", "cross_attention_dim",
            "attention_head_dim", "num_attention_heads", "transformer_layers_per_block", "reverse_transformer_layers_per_block",
            "down_block_types", "up_block_types", "norm_num_groups", "norm_eps", "act_fn", "dropout", "downsample_padding",
            "mid_block_scale_factor", "use_linear_projection", "upcast_attention", "only_cross_attention", "mid_block_only_cross_attention",
            "center_input_sample", "flip_sin_to_cos", "freq_shift", "conv_in_kernel", "conv_out_kernel", "resnet_time_scale_shift",
            "resnet_skip_time_act", "resnet_out_scale_factor", "time_embedding_type", "time_embedding_dim", "time_embedding_act_fn",
            "timestep_post_act", "cross_attention_norm",
            # Read only together with the keys below, which say whether they mean anything.
            "addition_time_embed_dim", "addition_embed_type_num_heads", "projection_class_embeddings_input_dim",
        )
    ),
    fixed={
        "mid_block_type": ("UNetMidBlock2DCrossAttn",),
        "class_embed_type": (None,),
        "num_class_embeds": (None,),
        "class_embeddings_concat": (False,),
        "addition_embed_type": (None,),
        "encoder_hid_dim": (None,),
        "encoder_hid_dim_type": (None,),
        "time_cond_proj_dim": (None,),
        "attention_type": ("default",),
        "dual_cross_attention": (False,),
    },
)  # fmt: skip

CONTROLNET = Rules(
    classes=("ControlNetModel",),
    free=UNET.free | {"conditioning_embedding_out_channels", "controlnet_conditioning_channel_order"},
    fixed={
        "conditioning_channels": (3,),
        "global_pool_conditions": (False,),
        "mid_block_type": UNET.fixed["mid_block_type"],
        "addition_embed_type": (None, "text_time"),
        **dict.fromkeys(("class_embed_type", "num_class_embeds", "encoder_hid_dim", "encoder_hid_dim_type"), (None,)),
    },
)

VAE = Rules(
    classes=("AutoencoderKL",),
    free=frozenset(
        (
            "block_out_channels", "down_block_types", "up_block_types", "layers_per_block", "act_fn", "latent_channels", "norm_num_groups",
            "sample_size", "scaling_factor", "shift_factor", "latents_mean", "latents_std", "force_upcast", "use_quant_conv",
            "use_post_quant_conv", "mid_block_add_attention",
        )
    ),
    fixed={"in_channels": (3,), "out_channels": (3,)},
)  # fmt: skip

TINY_VAE = Rules(
    classes=("AutoencoderTiny",),
    free=frozenset(
        (
            "encoder_block_out_channels", "decoder_block_out_channels", "act_fn", "upsample_fn", "latent_channels",
            "upsampling_scaling_factor", "num_encoder_blocks", "num_decoder_blocks", "latent_magnitude", "latent_shift", "force_upcast",
            "scaling_factor", "shift_factor", "block_out_channels",
        )
    ),
    fixed={"in_channels": (3,), "out_channels": (3,)},
)  # fmt: skip

SD3_TRANSFORMER = Rules(
    classes=("SD3Transformer2DModel",),
    free=frozenset(
        (
            "sample_size", "patch_size", "in_channels", "out_channels", "num_layers", "attention_head_dim", "num_attention_heads",
            "joint_attention_dim", "caption_projection_dim", "pooled_projection_dim", "pos_embed_max_size", "dual_attention_layers",
            "qk_norm",
        )
    ),
)  # fmt: skip

FLUX_TRANSFORMER = Rules(
    classes=("FluxTransformer2DModel",),
    free=frozenset(
        (
            "in_channels", "out_channels", "num_layers", "num_single_layers", "attention_head_dim", "num_attention_heads",
            "joint_attention_dim", "pooled_projection_dim", "guidance_embeds", "axes_dims_rope",
        )
    ),
    fixed={"patch_size": (1,)},
)  # fmt: skip

# What transformers writes into any config: how to generate text, how to train, bookkeeping. None of it reaches an encoder's forward pass.
_GENERIC = frozenset(
    (
        "architectures", "add_cross_attention", "bad_words_ids", "begin_suppress_tokens", "bos_token_id", "chunk_size_feed_forward",
        "cross_attention_hidden_size", "decoder_start_token_id", "diversity_penalty", "do_sample", "dtype", "early_stopping",
        "encoder_no_repeat_ngram_size", "eos_token_id", "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id",
        "forced_eos_token_id", "id2label", "is_decoder", "is_encoder_decoder", "label2id", "length_penalty", "max_length", "min_length",
        "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences", "output_attentions", "output_hidden_states",
        "output_past", "output_scores", "pad_token_id", "prefix", "problem_type", "remove_invalid_values", "repetition_penalty",
        "return_dict", "return_dict_in_generate", "scale_attn_weights", "sep_token_id", "suppress_tokens", "task_specific_params",
        "temperature", "tf_legacy_loss", "tie_encoder_decoder", "tie_word_embeddings", "tokenizer_class", "top_k", "top_p", "torch_dtype",
        "torchscript", "transformers_version", "typical_p", "use_bfloat16", "use_cache",
    )
)  # fmt: skip

CLIP_TEXT = Rules(
    classes=("clip_text_model",),
    free=_GENERIC
    | frozenset(
        (
            "vocab_size", "hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers", "num_attention_heads",
            "max_position_embeddings", "hidden_act", "layer_norm_eps", "dropout", "attention_dropout", "initializer_range",
            "initializer_factor",
        )
    ),
)  # fmt: skip

CLIP_VISION = Rules(
    classes=("clip_vision_model",),
    free=_GENERIC
    | frozenset(
        (
            "hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size",
            "hidden_act", "layer_norm_eps", "dropout", "attention_dropout", "initializer_range", "initializer_factor",
        )
    ),
    fixed={"num_channels": (3,)},
)  # fmt: skip

T5_TEXT = Rules(
    classes=("t5",),
    free=_GENERIC
    | frozenset(
        (
            "vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads", "relative_attention_num_buckets",
            "relative_attention_max_distance", "dropout_rate", "layer_norm_epsilon", "initializer_factor", "feed_forward_proj",
            "dense_act_fn", "is_gated_act", "n_positions", "classifier_dropout",
        )
    ),
)  # fmt: skip

TEXT_ENCODERS = {"CLIPTextModel": CLIP_TEXT, "CLIPTextModelWithProjection": CLIP_TEXT, "T5EncoderModel": T5_TEXT}

# Choices of a sampler: which timesteps it visits and how it integrates. They do not say what the network was trained on.
_SAMPLING = frozenset(
    (
        "algorithm_type", "clip_sample", "clip_sample_range", "corrector_order", "disable_corrector", "dynamic_thresholding_ratio", "eta",
        "euler_at_final", "final_sigmas_type", "interpolation_type", "lambda_min_clipped", "lower_order_final",
        "original_inference_steps", "predict_x0", "predictor_order", "sample_max_value", "set_alpha_to_one", "sigma_max", "sigma_min",
        "skip_prk_steps", "solver_order", "solver_p", "solver_type", "steps_offset", "thresholding", "timestep_scaling",
        "timestep_spacing", "use_beta_sigmas", "use_exponential_sigmas", "use_karras_sigmas", "use_lu_lambdas", "variance_type",
        "noise_sampler_seed", "tau_func", "use_clipped_model_output",
    )
)  # fmt: skip

DIFFUSION_SCHEDULER = Rules(
    classes=(
        "DDIMScheduler", "DDPMScheduler", "DDIMParallelScheduler", "DDPMParallelScheduler", "PNDMScheduler", "LMSDiscreteScheduler",
        "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DPMSolverSDEScheduler",
        "DEISMultistepScheduler", "UniPCMultistepScheduler", "SASolverScheduler", "LCMScheduler", "TCDScheduler",
    ),
    free=_SAMPLING | {"num_train_timesteps", "beta_start", "beta_end", "trained_betas", "rescale_betas_zero_snr", "flow_shift",
                      "time_shift_type"},
    fixed={
        "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
        "prediction_type": ("epsilon", "v_prediction", "sample"),
        "timestep_type": ("discrete",),
        "use_flow_sigmas": (False,),
        "use_dynamic_shifting": (False,),
    },
)  # fmt: skip

FLOW_SCHEDULER = Rules(
    classes=("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler"),
    free=frozenset(
        (
            "num_train_timesteps", "shift", "use_dynamic_shifting", "base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len",
            "shift_terminal", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "time_shift_type", "stochastic_sampling",
        )
    ),
    fixed={"invert_sigmas": (False,)},
)  # fmt: skip

# MVDream's own UNet (``MultiViewUNetModel``) in the words of latent diffusion's code base.
LDM_UNET = Rules(
    classes=("MultiViewUNetModel",),
    free=frozenset(
        (
            "image_size", "in_channels", "out_channels", "model_channels", "attention_resolutions", "num_res_blocks", "channel_mult",
            "num_head_channels", "num_heads", "context_dim", "dropout", "use_checkpoint", "use_fp16", "use_bf16",
            "legacy",  # another way to count heads, which this network's attention does not take
            "ip_weight",  # of an image prompt, which ip_dim switches on
        )
    ),
    fixed={
        "camera_dim": (16,),
        "ip_dim": (0, None),
        "dims": (2,),
        "conv_resample": (True,),
        "num_heads_upsample": (-1, None),
        "transformer_depth": (1,),
        "use_spatial_transformer": (True,),
        "use_linear_in_transformer": (True,),
        "use_scale_shift_norm": (False,),
        "resblock_updown": (False,),
        "with_ip": (False,),
    },
)  # fmt: skip
