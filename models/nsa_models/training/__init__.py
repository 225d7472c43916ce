"""Native training: a dense checkpoint learns to select, and to answer from what it selects.

lessons     texts with questions and answers as token ids
objectives  what is learned: the answers, φ, the evidence
recipe      the two stages, resumable
stage       their loop, within a time
together    several processes, a device each
"""
