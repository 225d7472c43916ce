"""`nsa eval`: questions with known answers, asked as `nsa ask` asks them.

suites      texts and questions of each suite
runner      asks the questions with each model and attention
metrics     exact match, F1, overlap with gold evidence, intervals
gold_rank   rank of the gold evidence among all passages, by attention and by BM25
loss        language-model loss by position
report      rows, tables and heat maps
plot        plots as image files
"""
