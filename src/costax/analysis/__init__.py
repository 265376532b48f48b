"""What one can ask of a counted program: the Analysis, symbols, activations, budgets, differences."""
