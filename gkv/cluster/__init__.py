"""Who is a member, and which epoch is in force.

`document` is the one value that says it; `view` is what a process believes; `authority` keeps the
document on disk and does what the `judge` decides, which lets nodes join; `caller` is a node's side of
that. Promises: the epoch only grows; two documents of one generation and epoch, which there can be
after one was lost, are told apart by their digests and rebuilt into one; no write is accepted under an
epoch once a change of the members may have begun. Leaves to others: how a document reaches a node
(`gkv.coordinator`), and what a node does with a call of another epoch (`gkv.node`).
"""
