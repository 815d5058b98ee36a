"""Training losses: contrastive with matching, answer likelihood, momentum copy, presets."""
