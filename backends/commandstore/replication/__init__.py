"""Moving commands from store to store: plan, checkpoint, engine."""
