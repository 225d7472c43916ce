"""A loaded model, an open document, and the generation of an answer."""
