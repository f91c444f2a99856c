"""How much memory a model and its requests need, and how much there is."""
