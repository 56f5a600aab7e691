"""Bytes over HTTP.

`server` serves a WSGI application; `channel` makes the calls to one node. Promises: every call gets exactly one `NodeReply`
within its deadline, never an exception; every queue has a bound; a slow node delays only who asked it. Leaves to others: what
the bytes mean. Everything here may switch greenlets where it says so, and nothing blocks the hub.
"""
