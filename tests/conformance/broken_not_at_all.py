"""A backend that is right: none of the laws that notice the broken ones may fail on it.

Not collected with the other tests: ``test_the_suite_itself.py`` runs this file and looks at what failed.
"""

from typing import ClassVar

from commandstore.memory import MemoryBackend
from conformance import broken_listing, broken_registers, broken_writing
from conformance.broken import Broken

BROKEN = {
    name: suite
    for module in (broken_writing, broken_listing, broken_registers)
    for name, suite in vars(module).items()
    if name.startswith("Test")
}


class TestRight(Broken):
    broken = MemoryBackend
    noticed_by: ClassVar = set.union(*(suite.noticed_by for suite in BROKEN.values()))
