"""open_clip's text transformer → transformers' CLIP: the official MVDream file's encoder, tiny and at the size of ViT-H (``-m slow``).

The reference is the transformer as open_clip has it, of torch's own MultiheadAttention; SD 2 and MVDream leave its last block out.
"""

import pytest
import tiny_pipelines as tiny
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig

from fsd_gs.priors import mvdream_checkpoint

TOKENS = 77


class Block(nn.Module):
    """x + attention(ln_1 x), then x + mlp(ln_2 x), under a causal mask."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.full((x.shape[1], x.shape[1]), -torch.inf).triu(1)
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp["c_proj"](nn.functional.gelu(self.mlp["c_fc"](self.ln_2(x))))


class OpenClipText(nn.Module):
    """The text tower of open_clip, by its own names."""

    def __init__(self, width: int, heads: int, layers: int, vocabulary: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.randn(TOKENS, width) * 0.1)
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(Block(width, heads) for _ in range(layers))})
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, width))
        self.logit_scale = nn.Parameter(torch.ones(()))

    def forward(self, ids: Tensor) -> Tensor:
        """States [B, L, D] before the last block, normed."""
        x = self.token_embedding(ids) + self.positional_embedding
        for block in self.transformer["resblocks"][:-1]:
            x = block(x)
        return self.ln_final(x)


SIZES = {"tiny": (32, 4, 3, 200), "ViT-H": (1024, 16, 24, 49408)}


@pytest.mark.parametrize("size", ["tiny", pytest.param("ViT-H", marks=pytest.mark.slow)])
@torch.no_grad()
def test_states_equal_the_original(size, tmp_path):
    width, heads, layers, vocabulary = SIZES[size]
    torch.manual_seed(0)
    original = OpenClipText(width, heads, layers, vocabulary).eval()
    for parameter in original.parameters():
        if parameter.ndim == 1:
            parameter.add_(torch.randn_like(parameter) * 0.1)  # biases are 0 and norms are 1 in a fresh network
    ids = torch.randint(0, vocabulary, (2, TOKENS))
    expected = original(ids)
    state = {f"{mvdream_checkpoint.TEXT_PREFIX}{name}": value.contiguous() for name, value in original.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    del original, state

    CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers - 1,
        num_attention_heads=heads,
        max_position_embeddings=TOKENS,
        hidden_act="gelu",
    ).save_pretrained(tmp_path / "text_encoder")
    tiny.clip_tokenizer().save_pretrained(tmp_path / "tokenizer")
    text = mvdream_checkpoint.build_text(tmp_path / "model.safetensors", tmp_path, torch.float32)
    ours = text.encoders[0](ids)[0]
    assert expected.std() > 0.5
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    print(f"{size}: largest error {(ours - expected).abs().max():.1e} of {expected.abs().max():.1f}")
