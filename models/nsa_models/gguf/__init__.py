"""GGUF files: configuration, tokenizer and weights."""
