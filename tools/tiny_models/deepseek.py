"""DeepSeek-V3 (arXiv 2412.19437): latent attention, trained in its expanded form, and from the second layer on a mixture of experts with a shared one."""

from dataclasses import dataclass

import torch
import transformers
from torch import nn
from torch.nn import functional

from experts import Experts, Router, largest
from network import Layer, Mlp, Network, Norm, fields

LATENT_EPS = 1e-6  # the norms of the latents have it whatever rms_norm_eps says


@dataclass(frozen=True)
class Shape:
    vocab_size: int = 2048
    hidden_size: int = 128
    intermediate_size: int = 384  # of the dense layers
    moe_intermediate_size: int = 96
    num_hidden_layers: int = 6
    first_k_dense_replace: int = 1
    num_attention_heads: int = 4
    q_lora_rank: int = 96
    kv_lora_rank: int = 64
    qk_nope_head_dim: int = 32
    qk_rope_head_dim: int = 32
    v_head_dim: int = 64
    n_routed_experts: int = 8
    n_shared_experts: int = 1
    num_experts_per_tok: int = 2
    routed_scaling_factor: float = 1.5
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1e4
    max_position_embeddings: int = 8192

    @property
    def rotary_dim(self) -> int:
        return self.qk_rope_head_dim

    def layer(self, index: int) -> nn.Module:
        dense = index < self.first_k_dense_replace
        return Layer(self, Attention(self), Mlp(self.hidden_size, self.intermediate_size) if dense else Mixture(self))


def rotate_pairs(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Pairs are neighbours. The result is ordered by halves, which no product of a query with a key can tell."""
    first, second = x[..., 0::2], x[..., 1::2]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Attention(nn.Module):
    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.heads, self.nope, self.rope, self.value, self.rank = s.num_attention_heads, s.qk_nope_head_dim, s.qk_rope_head_dim, s.v_head_dim, s.kv_lora_rank
        self.q_a_proj = nn.Linear(s.hidden_size, s.q_lora_rank, bias=False)
        self.q_a_layernorm = Norm(s.q_lora_rank, LATENT_EPS)
        self.q_b_proj = nn.Linear(s.q_lora_rank, self.heads * (self.nope + self.rope), bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(s.hidden_size, self.rank + self.rope, bias=False)
        self.kv_a_layernorm = Norm(self.rank, LATENT_EPS)
        self.kv_b_proj = nn.Linear(self.rank, self.heads * (self.nope + self.value), bias=False)
        self.o_proj = nn.Linear(self.heads * self.value, s.hidden_size, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        rows, length, _ = x.shape
        q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x))).view(rows, length, self.heads, -1).transpose(1, 2)
        q_nope, q_rope = q.split((self.nope, self.rope), dim=-1)
        latent, k_rope = self.kv_a_proj_with_mqa(x).split((self.rank, self.rope), dim=-1)
        kv = self.kv_b_proj(self.kv_a_layernorm(latent)).view(rows, length, self.heads, -1).transpose(1, 2)
        k_nope, v = kv.split((self.nope, self.value), dim=-1)
        k_rope = rotate_pairs(k_rope, cos, sin).unsqueeze(1).expand(-1, self.heads, -1, -1)  # one for all heads
        q = torch.cat((q_nope, rotate_pairs(q_rope, cos, sin)), dim=-1)
        k = torch.cat((k_nope, k_rope), dim=-1)
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(out.transpose(1, 2).reshape(rows, length, self.heads * self.value))


class Mixture(nn.Module):
    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.per_token, self.scale = s.num_experts_per_tok, s.routed_scaling_factor
        self.gate = Router(s.hidden_size, s.n_routed_experts, pace=2e-3)
        self.experts = Experts(s.hidden_size, s.moe_intermediate_size, s.n_routed_experts, lambda gate, up: functional.silu(gate) * up, bias=False)
        self.shared_experts = Mlp(s.hidden_size, s.n_shared_experts * s.moe_intermediate_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.gate.logits(x).sigmoid()
        chosen = largest(scores + self.gate.bias, self.per_token)
        self.gate.count(chosen)
        kept = scores * chosen
        return self.experts(x, self.scale * kept / kept.sum(-1, keepdim=True)) + self.shared_experts(x)


def model(shape: Shape, **common: object) -> transformers.PreTrainedModel:
    config = transformers.DeepseekV3Config(
        **{**fields(shape), **common}, num_key_value_heads=shape.num_attention_heads, n_group=1, topk_group=1, norm_topk_prob=True, rope_interleave=True, attention_bias=False, num_nextn_predict_layers=0
    )
    return transformers.DeepseekV3ForCausalLM(config)


def weights(network: Network) -> dict[str, torch.Tensor]:
    """transformers keeps gate and up of all experts in one tensor, gate first."""
    state = network.state_dict()
    for name in [name for name in state if name.endswith("experts.gate_proj")]:
        stem = name.removesuffix("gate_proj")
        state[f"{stem}gate_up_proj"] = torch.cat((state.pop(name), state.pop(f"{stem}up_proj")), dim=1)
    return {name.replace("gate.bias", "gate.e_score_correction_bias"): tensor for name, tensor in state.items()}
