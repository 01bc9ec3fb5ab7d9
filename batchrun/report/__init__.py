"""Stage 9: a batch as a page that people read, in one file or while the batch runs.

`rows` is what a page needs of a row; `facts` makes figures of rows, purely; `making` reads an output table with
what lies beside it; `page` makes HTML of facts and rows; `following` keeps the rows of a running batch, and `serving`
serves them. What is shown was written by models and strangers: it enters the page as JSON, and the page's own script
puts it into the document as text and as nothing else.
"""
