"""Delivery: one destination, one loop.

`loop` owns order, back-off and tries; `archive`, `forward` and `relay` know how one instance gets
to a folder or to another SCP; `schedule` says when to try again.
"""
