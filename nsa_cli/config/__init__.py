"""Options, settings files and templates."""
