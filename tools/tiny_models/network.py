"""What the architectures share: norm, rotation, embedding, loss. Parameters carry transformers' names wherever these fit."""

from dataclasses import asdict
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional


class Shape(Protocol):
    """A frozen dataclass whose fields are those of the configuration file."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int

    @property
    def rotary_dim(self) -> int: ...
    def layer(self, index: int) -> nn.Module: ...


def fields(shape: Shape) -> dict:
    """As the configuration file has them, which keeps theta elsewhere."""
    return {name: value for name, value in asdict(shape).items() if name != "rope_theta"}  # type: ignore[call-overload]


class Norm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        return (self.weight * wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Pairs are a half apart."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Mlp(nn.Module):
    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, s: Shape, attention: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.self_attn, self.mlp = attention, mlp
        self.input_layernorm, self.post_attention_layernorm = Norm(s.hidden_size, s.rms_norm_eps), Norm(s.hidden_size, s.rms_norm_eps)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(s.vocab_size, s.hidden_size)
        self.layers = nn.ModuleList(s.layer(index) for index in range(s.num_hidden_layers))
        self.norm = Norm(s.hidden_size, s.rms_norm_eps)


class Network(nn.Module):
    """Tied embeddings: the output projection is the embedding table."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.model = Decoder(s)
        angles = torch.outer(torch.arange(s.max_position_embeddings).float(), s.rope_theta ** (-torch.arange(0, s.rotary_dim, 2).float() / s.rotary_dim))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, parameter in self.named_parameters():
            if is_matrix(name, parameter):
                scale = 0.04 if "embed" in name else parameter.shape[-1] ** -0.5
                if "o_proj" in name or "down_proj" in name:
                    scale /= (2 * s.num_hidden_layers) ** 0.5
                nn.init.normal_(parameter, std=scale)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.model.embed_tokens(ids)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.bfloat16)
        cos, sin = self.cos[: ids.shape[1]].to(x.dtype), self.sin[: ids.shape[1]].to(x.dtype)
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        return functional.linear(self.model.norm(x), self.model.embed_tokens.weight)

    def loss(self, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Weighted mean over the targets."""
        logits = self(ids[:, :-1]).float()
        each = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        wanted = weights[:, 1:].flatten()
        return (each * wanted).sum() / wanted.sum()


def is_matrix(name: str, parameter: torch.Tensor) -> bool:
    """Experts are stacks of matrices; a stack of biases is none."""
    return parameter.ndim >= 2 and not name.endswith("bias")
