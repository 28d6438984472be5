"""Decide everything hard as pure functions over frozen values: no clock, no randomness, no await."""
