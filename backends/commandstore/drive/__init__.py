"""How one algorithm runs with and without an event loop.

Backends write their algorithms once, as coroutines. An ``AsyncCommandStore`` runs them on asyncio, over an
asynchronous client. A ``CommandStore`` runs them with :func:`run`: the client underneath is a blocking one whose
methods are wrapped as coroutines that never suspend, so one ``send(None)`` takes a coroutine to its end. No event loop,
no thread to carry one, no generated copy of the code.

What differs between the two worlds is in a :class:`Drive`: doing several things at once, sleeping, calling something
that blocks. asyncio is imported in ``asynchronous.py`` alone.
"""

from commandstore.drive.asynchronous import AsyncDrive
from commandstore.drive.base import Drive, OperationStopped, run
from commandstore.drive.blocking import BlockingClient, BlockingDrive

__all__ = ["AsyncDrive", "BlockingClient", "BlockingDrive", "Drive", "OperationStopped", "run"]
