"""The store: one SQLite file, written by group commit from the event loop (:mod:`minwebhook.db.database`)."""
