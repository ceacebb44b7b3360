"""Who is calling: tokens, principals, and the store that resolves one into the other."""
