"""Objects of a workspace: files under keys, in a local directory or in an S3-compatible store, behind one interface.

Callers use :class:`~minwebhook.storage.objects.ObjectStorage` and never learn where the bytes are. A kind of storage is
a :class:`~minwebhook.storage.backend.Backend`: plain blocking code, run in threads.
"""
