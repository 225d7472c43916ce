"""The model: layers, attention, compression, int8 weights."""
