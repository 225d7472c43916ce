"""Native training: a dense checkpoint learns block selection and sparse answering.

examples     training examples as token ids
objectives   losses of the answers, of φ and of the retrieval heads
forward      attention of a training example
recipe       the two stages, distillation and tuning
stage        the training loop, limited by time
distributed  several processes with one device each
"""
