"""Training sets, training, evaluation, and the bundles that come of them."""
