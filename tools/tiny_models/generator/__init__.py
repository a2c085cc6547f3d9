"""Seeded training and evaluation text for the bundled models. Standard library only."""

from . import families as families  # registers the word problems
