"""A deterministic explorer of thread interleavings, for our own lock-free code.

The code under test runs as it is, on real threads, of which exactly one runs at a time. Before each operation
on state that threads share (``points``, ``containers``, ``locks``) the running thread asks the ``Scheduler``
who goes next; the ``Explorer`` answers in every way there is up to a bound of pre-emptions, or at random, and
names what it did by a schedule, which ``Explorer.replay`` runs again.
"""
