"""WebSocket servers and proxies that share no code with wsclient, each in a process of its own.

All servers understand the same paths; any connection may bring ``id=...`` in its query. Node's ``ws`` insists
on small windows and no context where that has ``deflate=frugal``, and declines compression where it has
``deflate=off``:

=======================  ===============================================================================
``/echo``                sends every message back
``/fragments?pieces=N``  sends every message back in N frames, cut at any byte
``/ping``                answers a message with a ping that carries it, and the pong with ``pong <message>``
``/close?code=C``        closes on the first message, with code C and the message as the reason
``/drop``                ends TCP on the first message, without a close frame
``/closed?of=ID``        answers a message with ``[code, reason]`` of the end of connection ID, once it ended
anything else            HTTP 404
=======================  ===============================================================================

They print their URL and serve until their standard input ends, so they die with whoever started them.
"""

from __future__ import annotations
