"""JSON in and out. Pure functions: nothing here waits, and nothing is kept between calls.

`strict` reads JSON from outside: exactly RFC 8259, in UTF-8, within limits. `client` is the format of the original batch
interface. `frames` is what a coordinator and a node say to each other. The text of a value is never rewritten: the bytes
that a client sent are the bytes that a client gets.
"""
