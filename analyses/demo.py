"""The demo: the recipe with which the main job runs on the model and the data that are shipped."""

from finetune.recipe import Recipe

RECIPE = Recipe(lr=2e-3, epochs=8, batch_size=16, patience=3)
"""A model this small learns from a few hundred pairs only at a rate far above that of large ones."""
