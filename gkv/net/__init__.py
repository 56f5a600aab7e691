"""Bytes over HTTP.

`server` serves an application, each client over a `connection`; `channel` makes the calls to one
node. Promises: every call gets exactly one `NodeReply` within its deadline, never an exception;
every queue, body and answer has a bound; a slow client or node delays only who asked it, and one
that always has more gives way after a few requests or bytes; calls and requests of one lane do not
wait for those of another. Leaves to others: what the bytes mean. Everything here may switch
greenlets where it says so, and nothing blocks the hub for more than a few milliseconds.
"""
