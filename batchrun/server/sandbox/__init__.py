"""The code interpreter: Python in a sandbox."""
