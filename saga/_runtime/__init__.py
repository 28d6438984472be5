"""Read, call and write: the async shell around the decisions of `saga._core`."""
