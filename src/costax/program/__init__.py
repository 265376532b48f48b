"""From the user's function to a counted tree: tracing, the walk, call sites, regions, parameters."""
