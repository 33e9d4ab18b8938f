"""The doctor: scores a sample of pairs and checks that policy, reference and data set fit together."""
