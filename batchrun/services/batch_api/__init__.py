"""The Batch API: requests of rows in files, which the service answers within a day."""
