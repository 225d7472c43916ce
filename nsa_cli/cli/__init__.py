"""One file per command; each parses its options and imports what does the work when it runs."""
