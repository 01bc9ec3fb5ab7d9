"""One batch in many processes: how the work is divided, and how rates and money are shared."""
