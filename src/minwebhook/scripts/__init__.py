"""Scripts: the pure model, the versions in the store, and deploying a directory of files."""
