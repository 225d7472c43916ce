"""From a question to scored blocks, passages and citations."""
