"""Show a saga that waits for a person, with a deadline; see README.md."""
