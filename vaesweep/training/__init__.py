"""The packed training loop, its optimiser and its checkpoints: one process, any device, no Ray."""
