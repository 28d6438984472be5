"""Lend handlers sessions of SQLAlchemy's, and keep sagas in PostgreSQL through an engine of it; extra `[sqlalchemy]`.

`session` and `lite` need SQLAlchemy, the others asyncpg, too.
"""
