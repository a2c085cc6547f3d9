"""Seeded training and evaluation text for the bundled models. Standard library only."""
