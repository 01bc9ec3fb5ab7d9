"""The files of rows: uploads and messages with attachments, citations, and downloads of produced files."""
