"""Loading: order, shards, batches and workers."""
