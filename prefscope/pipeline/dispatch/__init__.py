"""Who computes the batches of a plan: this process, several of this machine, or a Ray cluster."""
