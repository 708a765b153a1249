"""The public verbs: files in, result dataclasses and files out; the only place where rooms meet."""
