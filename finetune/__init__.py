"""Fine-tuning with the selection in the forward pass. PyTorch is an optional extra; nothing else of the project imports this package."""
