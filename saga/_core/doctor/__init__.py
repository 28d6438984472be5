"""Say what is wrong with a fleet from facts that somebody else has read; see `saga._core.diagnosing`."""
