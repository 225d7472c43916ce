"""`nsa train`: training data, self-generated answers, two stages."""
