"""The suite `documents` of `nsa eval`: questions about real documents, with answers and pages.

questions   files of questions, their selection, order and digest
tables      other data sets as questions: tables and meetings, the part that training omits
sources     the PDFs, checked by hash, or their text parsed before
runner      asks each question by each way; `ways` are nsa, find, chunks, gold and dense
excerpts    the document that a baseline has in its prompt
matching    compares answers with groups of alternatives
rows        one row for each answer, appended to a file
scores      what a row is worth
report      shares, intervals and tables; `paired` compares two ways
collect     collects the PDFs from their public sources
freeze      hashes of the questions, to tell a change
parse       parses the PDFs for a machine without PDF libraries
"""
