"""What scripts may know besides their arguments: variables, resources with their types, and state, which is a resource."""
