"""Runtimes: how a language is started, warmed, fed and read. All processes are born from a zygote (child/zygote.py)."""
