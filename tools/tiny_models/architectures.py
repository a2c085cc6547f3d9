"""The architectures that the recipe can train. Each module has `Shape`, `model` (transformers' own, to export into) and `weights` (under its names)."""

from types import ModuleType

import deepseek
import gptoss
import qwen3

ARCHITECTURES: dict[str, ModuleType] = {"qwen3": qwen3, "deepseek": deepseek, "gptoss": gptoss}
