"""Why XLA's number is another one: lowering, ahead-of-time compilation, and an account of every difference."""
