"""A small transformer that attends as a video model does: a text encoder with a mask, then blocks of self attention
over many tokens and cross attention over few. Weights are random; only what attention is asked for matters.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional


class Size(NamedTuple):
    """``tokens`` of video, ``words`` of text, of which ``padding`` are masked; ``heads`` of ``head_dim``."""

    tokens: int
    words: int
    padding: int
    heads: int
    head_dim: int
    blocks: int

    @property
    def dim(self) -> int:
        """Channels."""
        return self.heads * self.head_dim


class Attention(nn.Module):
    """Calls torch's function by its module, as it is called at the time."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.query, self.key, self.value, self.out = (nn.Linear(size.dim, size.dim) for _ in range(4))

    def forward(
        self, x: torch.Tensor, context: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attend from ``x`` to ``context``, both (batch, tokens, dim); ``mask`` is true where a key counts."""
        q, k, v = (
            layer(each).unflatten(-1, (self.size.heads, self.size.head_dim)).transpose(1, 2)
            for layer, each in ((self.query, x), (self.key, context), (self.value, context))
        )
        found = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(found.transpose(1, 2).flatten(2))


class TextEncoder(nn.Module):
    """Two layers of self attention that must not see the padding."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Attention(size) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(size.dim) for _ in range(2))

    def forward(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Encode (batch, words, dim)."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            normed = norm(words)
            words = words + layer(normed, normed, mask)
        return words


class Block(nn.Module):
    """Self attention over the video, cross attention over the text, and an MLP."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.itself, self.text = Attention(size), Attention(size)
        self.norms = nn.ModuleList(nn.LayerNorm(size.dim) for _ in range(3))
        self.mlp = nn.Sequential(nn.Linear(size.dim, size.dim), nn.GELU(), nn.Linear(size.dim, size.dim))

    def forward(self, x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Return (batch, tokens, dim)."""
        normed = self.norms[0](x)
        x = x + self.itself(normed, normed)
        x = x + self.text(self.norms[1](x), text)
        return x + self.mlp(self.norms[2](x))


class VideoModel(nn.Module):
    """Everything together."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.encoder = TextEncoder(size)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.blocks))

    def encode(self, words: torch.Tensor) -> torch.Tensor:
        """Encode the text; the last ``padding`` words do not count."""
        mask = torch.ones(1, 1, 1, self.size.words, dtype=torch.bool, device=words.device)
        mask[..., self.size.words - self.size.padding :] = False
        return self.encoder(words, mask)

    def forward(self, video: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Return (1, tokens, dim) for video (1, tokens, dim) and words (1, words, dim)."""
        text = self.encode(words)
        for block in self.blocks:
            video = block(video, text)
        return video
