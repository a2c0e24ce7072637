"""Unlearning methods: one file each, the algorithm visible on a page.

A method is built from (model, its spec, the counted passes of the phase). It has ``intervened``: names of the
parameters that it changes; ``weights``: those parameters; ``zero_norms``: loops whose gradient vanished; and
``step(forget, retain)``: one loop on two token batches, returning the two cross-entropies.
It never logs, evaluates, prunes, saves, seeds or picks a device.
"""

from mudman.methods.mudman import Mudman

METHODS = {"mudman": Mudman}
