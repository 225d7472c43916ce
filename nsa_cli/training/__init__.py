"""`nsa train`: training data, answers the model gives itself, two stages."""
