"""`nsa batch`: many documents, one row for each question."""
