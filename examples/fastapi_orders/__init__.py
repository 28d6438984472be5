"""Show how an existing FastAPI and SQLAlchemy service takes part in sagas; see README.md."""
