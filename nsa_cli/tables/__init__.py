"""Questions about tables that code answers: counts, sums, means, extremes, look-ups."""
