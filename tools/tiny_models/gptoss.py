"""GPT-OSS (arXiv 2508.10925): biases, a sink per head, a window in every other layer, a clamped activation."""

from dataclasses import dataclass

import torch
import transformers
from torch import nn
from torch.nn import functional

from experts import Experts, Router, largest
from network import Layer, Network, fields, rotate

ALPHA, LIMIT = 1.702, 7.0


@dataclass(frozen=True)
class Shape:
    vocab_size: int = 2048
    hidden_size: int = 128
    intermediate_size: int = 96  # of an expert
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    sliding_window: int = 128  # positions a query of an even layer sees, its own among them
    num_local_experts: int = 8
    num_experts_per_tok: int = 4
    rms_norm_eps: float = 1e-6
    rope_theta: float = 150000.0
    max_position_embeddings: int = 8192

    @property
    def rotary_dim(self) -> int:
        return self.head_dim

    def layer(self, index: int) -> nn.Module:
        return Layer(self, Attention(self, self.sliding_window if index % 2 == 0 else None), Mixture(self))


def full_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sinks: torch.Tensor) -> torch.Tensor:
    """q [B, H, T, D], k, v [B, HK, T, D], sinks [H]. The sink is a key in front of all: an extra dim holds the sink in queries, one in that key and zero in others."""
    rows, heads, length, dim = q.shape
    extra = 8  # dims come in eights; one is needed
    logits = (sinks * dim**0.5).to(q.dtype).view(1, heads, 1, 1).expand(rows, heads, length, 1)
    q = functional.pad(torch.cat((q, logits), dim=-1), (0, extra - 1, 1, 0))
    k, v = functional.pad(k, (0, extra, 1, 0)), functional.pad(v, (0, extra, 1, 0))
    mark = functional.pad(torch.ones(1, 1, device=k.device, dtype=k.dtype), (dim, extra - 1, 0, length))
    out = functional.scaled_dot_product_attention(q, k + mark, v, is_causal=True, enable_gqa=True, scale=dim**-0.5)
    return out[:, :, 1:, :dim]


def windowed_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sinks: torch.Tensor, window: int) -> torch.Tensor:
    """The same where a query sees `window` positions: blocks of as many queries meet their own block of keys and the one before."""
    rows, heads, length, dim = q.shape
    kv_heads = k.shape[1]
    group, padding = heads // kv_heads, -length % window
    q, k, v = (functional.pad(x, (0, 0, 0, padding)).unflatten(2, (-1, window)) for x in (q, k, v))
    blocks = q.shape[2]
    q = q.unflatten(1, (kv_heads, group)).transpose(2, 3).flatten(3, 4)  # [B, HK, blocks, group x window, D]
    k, v = (torch.cat((functional.pad(x, (0, 0, 0, 0, 1, 0))[:, :, :-1], x), dim=3) for x in (k, v))  # [B, HK, blocks, 2 x window, D]
    scores = (q @ k.mT).float().unflatten(3, (group, window)) * dim**-0.5
    at = torch.arange(2 * window, device=q.device)
    back = at[window:, None] - at
    seen = (back >= 0) & (back < window) & ((at >= window) | (torch.arange(blocks, device=q.device) > 0)[:, None, None, None])
    scores = scores.masked_fill(~seen, float("-inf"))
    sink = sinks.float().view(kv_heads, 1, group, 1, 1)
    top = torch.maximum(scores.amax(-1, keepdim=True), sink).detach()
    risen = torch.exp(scores - top)
    shares = risen / (risen.sum(-1, keepdim=True) + torch.exp(sink - top))
    out = shares.to(v.dtype).flatten(3, 4) @ v
    return out.unflatten(3, (group, window)).transpose(2, 3).flatten(1, 2).flatten(2, 3)[:, :, :length]


class Attention(nn.Module):
    def __init__(self, s: Shape, window: int | None) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.dim, self.window = s.num_attention_heads, s.num_key_value_heads, s.head_dim, window
        self.q_proj = nn.Linear(s.hidden_size, self.heads * self.dim)
        self.k_proj = nn.Linear(s.hidden_size, self.kv_heads * self.dim)
        self.v_proj = nn.Linear(s.hidden_size, self.kv_heads * self.dim)
        self.o_proj = nn.Linear(self.heads * self.dim, s.hidden_size)
        self.sinks = nn.Parameter(torch.zeros(self.heads))
        for linear in (self.q_proj, self.k_proj, self.v_proj, self.o_proj):
            nn.init.zeros_(linear.bias)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        rows, length, _ = x.shape
        q = rotate(self.q_proj(x).view(rows, length, self.heads, self.dim).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(rows, length, self.kv_heads, self.dim).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(rows, length, self.kv_heads, self.dim).transpose(1, 2)
        out = full_attention(q, k, v, self.sinks) if self.window is None else windowed_attention(q, k, v, self.sinks, self.window)
        return self.o_proj(out.transpose(1, 2).reshape(rows, length, self.heads * self.dim))


def clamped_swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    gate, up = gate.clamp(max=LIMIT), up.clamp(-LIMIT, LIMIT)
    return (up + 1) * gate * torch.sigmoid(ALPHA * gate)


class Mixture(nn.Module):
    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.per_token = s.num_experts_per_tok
        self.router = Router(s.hidden_size, s.num_local_experts, pace=8e-3)
        self.experts = Experts(s.hidden_size, s.intermediate_size, s.num_local_experts, clamped_swiglu, bias=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.router.logits(x) + self.router.bias
        chosen = largest(logits, self.per_token)
        self.router.count(chosen)
        return self.experts(x, logits.masked_fill(~chosen, float("-inf")).softmax(-1))


def model(shape: Shape, **common: object) -> transformers.PreTrainedModel:
    return transformers.GptOssForCausalLM(transformers.GptOssConfig(**{**fields(shape), **common}, attention_bias=True))


def weights(network: Network) -> dict[str, torch.Tensor]:
    """transformers keeps experts [E, in, out], gate and up in turns."""
    state = network.state_dict()
    for name in [name for name in state if name.endswith("experts.gate_proj")]:
        stem = name.removesuffix("gate_proj")
        gate, up, down = (state.pop(f"{stem}{part}_proj").mT for part in ("gate", "up", "down"))
        state[f"{stem}gate_up_proj"] = torch.stack((gate, up), dim=-1).flatten(-2)
        state[f"{stem}gate_up_proj_bias"] = torch.stack((state.pop(f"{stem}gate_bias"), state.pop(f"{stem}up_bias")), dim=-1).flatten(-2)
        state[f"{stem}down_proj"] = down.contiguous()
        state[f"{stem}down_proj_bias"] = state.pop(f"{stem}down_bias")
    return state
