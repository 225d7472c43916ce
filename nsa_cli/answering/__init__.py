"""Use cases over documents: ask, dry run, follow, find, summarize, chat."""
