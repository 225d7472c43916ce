"""Native training: a dense checkpoint learns to select, and to answer from what it selects.

lessons     texts with questions and answers as token ids
heads       how much each head's look at a block counts as evidence
objectives  what is learned: the answers, φ, the evidence
recipe      the two stages, within a time, resumable
"""
