"""Training: a dense checkpoint learns block selection, or a model learns from scratch.

examples           training examples as token ids
objectives         losses of the answers, of φ and of the retrieval heads
forward            attention of a training example
recipe             the two stages, distillation and tuning
stage              the training loop of a stage, limited by time
distributed        several processes with one device each

shards             documents as token ids on disk
rows               rows of packed documents, by the number of the step
packed_attention   attention within each document of a row
initial            initial weights, by seed and name
choice_loss        the loss of the choice of blocks
cross_entropy      the loss without the logits of all positions in memory
flops              model FLOPs of a step
pretrain_settings  settings of a training from scratch, and its learning rate
optimizers         AdamW or Muon
muon               Muon for all matrices of one shape at once
update             clipping, optimizers and zero gradients, from CUDA graphs
parallel           replicas or shards of a model
heldout            the loss on held-out documents, by position
checkpoint         the state of a training and the folder of its model
pretrain           the training loop from scratch
"""
