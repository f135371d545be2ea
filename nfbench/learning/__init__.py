"""Training runs: data, recipe, the loop over epochs, evaluation, checkpoints."""
