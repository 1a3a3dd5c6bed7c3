"""A module of handlers that cannot be imported."""

raise RuntimeError("no setting")
