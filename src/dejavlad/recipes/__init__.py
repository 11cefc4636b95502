"""Recipes that come with the package, as TOML: `train` for training, `rerank` for re-ranking."""
