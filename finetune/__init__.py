"""Fine-tuning with the selection in the forward pass. PyTorch is an optional extra; beside its own command only compare.training uses it."""
