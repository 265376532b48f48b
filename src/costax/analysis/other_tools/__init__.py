"""Other tools: what they would print for a program, and why it differs from what costax counts."""
