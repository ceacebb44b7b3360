"""From the signature of a script to the JSON Schema of its arguments, and from a schema to whether arguments fit it."""
