"""The HTTP surface that proxies and nodes share.

`http` reads requests and renders answers and errors; `data` has the routes that both answer. Promises: every error is
`application/problem+json` (RFC 9457), in one place; no answer holds a stack trace or a path; whatever is not understood is
refused, never ignored. Leaves to others: what a request does (`gkv.coordinator`). The third-party piece is Bottle: routes are
declared with it and nowhere else.
"""
