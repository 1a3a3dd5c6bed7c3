"""Seeded faults for any backend or SDK client, and a storm that looks for what they break.

* :class:`FaultPlan` decides which request fails, and how; the same for the same seed. :class:`Script` is the same by
  hand: the next such request fails so.
* :class:`FaultyBackend` is any backend with a plan's faults. ``faults.client`` and ``faults.aws`` wrap clients of boto3
  and aioboto3, ``faults.firestore`` the calls of Firestore's.
* :func:`run_storm` does many things at once to a store, and says which law is broken.

What needs an SDK is imported from its own module; this one needs none.
"""

from commandstore.testing.faults.backend import FaultyBackend
from commandstore.testing.faults.plan import Decision, Entry, Fault, FaultPlan
from commandstore.testing.faults.script import Passage, Script
from commandstore.testing.faults.storm import LawBroken, StormReport, run_storm
from commandstore.testing.faults.virtual import VirtualTime

__all__ = [
    "Decision",
    "Entry",
    "Fault",
    "FaultPlan",
    "FaultyBackend",
    "LawBroken",
    "Passage",
    "Script",
    "StormReport",
    "VirtualTime",
    "run_storm",
]
