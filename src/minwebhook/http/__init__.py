"""HTTP/1.1 on trio and h11. Knows nothing of jobs, scripts or tokens: it can be tested and benchmarked alone."""
