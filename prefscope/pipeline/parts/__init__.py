"""A folder of parts, shared by many processes: a plan, and a part for each shard and model."""
