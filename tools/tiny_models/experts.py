"""Mixtures of experts for training. Every expert is computed for every token, and those not chosen count nothing: at this size one wide product beats
sorting tokens by expert."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional


def largest(scores: torch.Tensor, count: int) -> torch.Tensor:
    """True for the `count` largest of the last axis. Comparisons fuse with what is around them; a sort does not."""
    above = (scores.unsqueeze(-2) > scores.unsqueeze(-1)).sum(-1)
    return above < count


class Router(nn.Module):
    """Scores in float32. The bias is not trained: after each step it moves by `pace` towards experts that got too few tokens (arXiv 2408.15664)."""

    def __init__(self, hidden_size: int, experts: int, pace: float) -> None:
        super().__init__()
        self.pace = pace
        self.weight = nn.Parameter(torch.empty(experts, hidden_size))
        self.register_buffer("bias", torch.zeros(experts))
        self.register_buffer("load", torch.zeros(experts), persistent=False)  # tokens since the last step

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return functional.linear(x.float(), self.weight)

    def count(self, chosen: torch.Tensor) -> None:
        if self.training:
            self.load += chosen.flatten(0, -2).sum(0)

    @torch.no_grad()
    def rebalance(self, share: float) -> None:
        self.bias.add_(torch.sign(self.load.mean() - self.load), alpha=share * self.pace)
        self.load.zero_()


class Experts(nn.Module):
    def __init__(self, hidden_size: int, width: int, count: int, activation: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], bias: bool) -> None:
        super().__init__()
        self.activation = activation
        self.gate_proj = nn.Parameter(torch.empty(count, width, hidden_size))
        self.up_proj = nn.Parameter(torch.empty(count, width, hidden_size))
        self.down_proj = nn.Parameter(torch.empty(count, hidden_size, width))
        self.gate_bias = nn.Parameter(torch.zeros(count, width)) if bias else None
        self.up_bias = nn.Parameter(torch.zeros(count, width)) if bias else None
        self.down_bias = nn.Parameter(torch.zeros(count, hidden_size)) if bias else None

    def forward(self, x: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """x [..., hidden], shares [..., experts]: the experts' weights, zero for those not chosen."""
        count, width, _ = self.gate_proj.shape
        shares = shares.to(x.dtype)
        gate = functional.linear(x, self.gate_proj.flatten(0, 1), None if self.gate_bias is None else self.gate_bias.flatten())
        up = functional.linear(x, self.up_proj.flatten(0, 1), None if self.up_bias is None else self.up_bias.flatten())
        inner = self.activation(gate, up).unflatten(-1, (count, width)) * shares.unsqueeze(-1)
        out = functional.linear(inner.flatten(-2), self.down_proj.transpose(0, 1).flatten(1))
        return out if self.down_bias is None else out + shares @ self.down_bias
