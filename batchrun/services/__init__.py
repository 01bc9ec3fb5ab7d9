"""The three protocols: each service sends a row's prompt to an API and returns the reply.

A request passes these modules: `factory` builds the service of the job's protocol (`assistants`, `responses` or
`chat`), which builds the body, with the files of the row from `files`; `wire` sends it by the client of `client`, over
the route of `route`; `assistants_replies`, `responses_replies` or `chat_replies` read the reply with the readers of
`reply_fields`; and `translation` turns every error into one of batchrun's own, by the codes and words in `refusals`.
"""
