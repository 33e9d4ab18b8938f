"""A folder that many processes fill: a plan made once, and a part for every shard and model."""
