"""gkv: a distributed key-value store that anyone can drive with curl.

The rooms, in reading order: `errors`, `model` and `config` are the words; `ring` says which node owns a key; `wire` reads and
writes JSON; `engine` keeps records; `net` moves bytes; `cluster` knows who is a member; `coordinator` turns one request into
parallel node calls and their answers into one; `api` is the HTTP surface that proxies and nodes share, `process` what they
have in common as processes; `node` and `proxy` are the two programs, and `cli` starts them. `client` is what other programs
reach all of this with.
"""

__version__ = "0.2.0"
