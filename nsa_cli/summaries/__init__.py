"""A document becomes a summary: parts, cited statements, an overview paragraph."""
