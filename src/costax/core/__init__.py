"""Values that every other package uses: costs, polynomials, equations, units. Neither jax nor numpy is imported."""
