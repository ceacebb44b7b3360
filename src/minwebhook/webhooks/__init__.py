"""The contract: from a request to a script's arguments, and from a job's outcome to the answer. Pure."""
