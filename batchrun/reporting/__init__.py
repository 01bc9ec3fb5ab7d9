"""Report: a batch as a page that people read, in one file or live while the batch runs.

`rows` has the data of one row, `facts` computes figures from rows, `report` reads an output table and the journal next
to it, and `html` makes the page. `live_batch` follows the rows of a running batch, and `serve` serves them. The shown
texts were written by models and other outsiders: they enter the page as JSON, and the page's own script inserts them
into the document as text only.
"""
