"""The suite `summaries` of `nsa eval`: summaries of meetings beside summaries that people wrote.

meetings    the meetings, and the summary of each that is the reference
ways        nsa, and the same model with the beginning of the text or by map-reduce
scores      ROUGE-Lsum, coverage of names, figures and dates, sentences supported by a citation
rows        one row for each summary, appended to a file
runner      makes the summaries that the file lacks
report      means, shares and ratios with intervals
"""
