"""How fast attention is on a GPU, beside how far off: backends compared, crossover lengths, recommendations."""
