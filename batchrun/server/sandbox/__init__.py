"""The tools that the embedded server runs itself: search in files, and Python in a sandbox."""
