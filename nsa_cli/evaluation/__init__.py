"""`nsa eval`: questions with known answers, asked as `nsa ask` asks them.

suites      which texts are read, what is asked
asking      a model and its attention at work on them, through the session that `nsa ask` uses
scoring     exact match, F1, evidence; intervals
retrieval   where the evidence ranks among all passages, and where BM25 ranks it
loss        language-model loss by position
report      rows, tables and heat maps; plot: the same as PNG
"""
