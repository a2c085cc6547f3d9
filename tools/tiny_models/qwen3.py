"""Qwen3: grouped queries, a norm per head, one dense feed-forward part."""

from dataclasses import dataclass

import torch
import transformers
from torch import nn
from torch.nn import functional

from network import Layer, Mlp, Network, Norm, fields, rotate


@dataclass(frozen=True)
class Shape:
    vocab_size: int = 2048
    hidden_size: int = 128
    intermediate_size: int = 512
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1e6
    max_position_embeddings: int = 8192

    @property
    def rotary_dim(self) -> int:
        return self.head_dim

    def layer(self, index: int) -> nn.Module:
        return Layer(self, Attention(self), Mlp(self.hidden_size, self.intermediate_size))


class Attention(nn.Module):
    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.dim = s.num_attention_heads, s.num_key_value_heads, s.head_dim
        self.q_proj = nn.Linear(s.hidden_size, self.heads * self.dim, bias=False)
        self.k_proj = nn.Linear(s.hidden_size, self.kv_heads * self.dim, bias=False)
        self.v_proj = nn.Linear(s.hidden_size, self.kv_heads * self.dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.dim, s.hidden_size, bias=False)
        self.q_norm, self.k_norm = Norm(self.dim, s.rms_norm_eps), Norm(self.dim, s.rms_norm_eps)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        rows, length, _ = x.shape
        q = self.q_norm(self.q_proj(x).view(rows, length, self.heads, self.dim)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(rows, length, self.kv_heads, self.dim)).transpose(1, 2)
        v = self.v_proj(x).view(rows, length, self.kv_heads, self.dim).transpose(1, 2)
        out = functional.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True, enable_gqa=True)
        return self.o_proj(out.transpose(1, 2).reshape(rows, length, self.heads * self.dim))


def model(shape: Shape, **common: object) -> transformers.PreTrainedModel:
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**{**fields(shape), **common}, attention_bias=False))


def weights(network: Network) -> dict[str, torch.Tensor]:
    return network.state_dict()
