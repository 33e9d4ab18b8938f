"""Dispatchers, which decide where batches are computed: in this process, in worker processes, or on a Ray cluster."""
