"""Documents as token ids that fit the model: prompts, context windows, estimates."""
