"""A container for a test, by the rule that holds for engines: in CI it has to be there, a laptop need not have it."""

from __future__ import annotations

import pytest

from commandstore.testing.engine_base import EngineUnavailable, engines_required
from lambda_runtime.runtime_api import LambdaContainer

__all__ = ["container"]


def container(handler: str, environment: dict[str, str] | None = None, **options) -> LambdaContainer:
    try:
        return LambdaContainer(handler, environment or {}, **options)
    except EngineUnavailable as missing:
        if engines_required():
            pytest.fail(f"COMMANDSTORE_REQUIRE_ENGINES is set, but {missing}", pytrace=False)
        pytest.skip(str(missing))
