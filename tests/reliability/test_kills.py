"""Syncs killed at random moments, alone and several at once: nothing is lost, nothing doubled, all in the ledger."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import sys

import pytest

from reliability.kills import Campaign
from reliability.scale import FULL, scaled
from reliability.stores import SERVICES, opened

SEED = 20261125
logger = logging.getLogger(__name__)
pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux, to watch processes by their pidfd")


@pytest.fixture
def where(request):
    yield from opened(request)


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "ledger"
    arguments = [sys.executable, "-m", "commandstore", "audit", "keygen", str(path)]
    subprocess.run(arguments, check=True, capture_output=True)  # noqa: S603 - our own program
    return path


# 300 kills for each destination in the full form, 20 for all together in the reduced one.
ALONE = [True, False] if FULL else [True]
SOME = [("s3", 2), ("dynamodb", 2), ("postgres", 4), ("sqlite", 4)]
SEVERAL = list(itertools.product(SERVICES, [2, 4])) if FULL else SOME


@pytest.mark.parametrize("where", SERVICES, indirect=True)
@pytest.mark.parametrize("signed", ALONE, ids=lambda signed: "signed" if signed else "plain")
def test_a_sync_that_is_killed_again_and_again_ends_as_if_nothing_had_happened(where, key, signed, tmp_path) -> None:
    campaign = Campaign(where, tmp_path, f"{SEED} 1 {signed}", key=key if signed else None)
    logger.info("%s, alone, %s", where.scheme, campaign.run(scaled(2, 100)))


@pytest.mark.parametrize(("where", "at_once"), SEVERAL, indirect=["where"])
def test_so_do_several_at_once(where, key, at_once, tmp_path) -> None:
    campaign = Campaign(where, tmp_path, f"{SEED} {at_once}", key=key, at_once=at_once)
    logger.info("%s, %d at once, %s", where.scheme, at_once, campaign.run(scaled(2 if at_once == 2 else 3, 50)))
