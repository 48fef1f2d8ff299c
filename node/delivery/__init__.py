"""Delivery: one destination, one loop.

`loop` drives a destination's lanes; `worklist` says which entry is next, `circuit` whether the
destination is called now, `schedule` when again. `archive`, `forward` and `relay` know how one
instance gets to a folder or to another SCP; `judging` says what an answer means, `refusals` and
`capability` keep what a destination does not take and what it does. `progress` is what is told.
"""
