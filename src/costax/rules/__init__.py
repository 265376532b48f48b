"""What a primitive costs, and what it is: cost rules, body rules, traits and worked examples."""
