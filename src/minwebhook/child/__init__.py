"""What runs inside the sandbox: the fork server ("zygote") and the runners of each language.

Standard library only, and no import from the packages above: these modules are loaded by a bare interpreter
(``python -I -S``). The server imports this package too, for the wire format.
"""
