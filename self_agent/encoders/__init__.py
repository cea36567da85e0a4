"""Events to bytes: pure functions, one file for each framing."""
