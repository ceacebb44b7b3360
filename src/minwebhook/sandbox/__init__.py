"""The sandbox of scripts: what this kernel allows (probe), what a script gets as data (plan, seccomp)."""
