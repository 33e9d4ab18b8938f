"""Is this policy, this reference and this data set what they are taken for? Asked of a sample of pairs."""
