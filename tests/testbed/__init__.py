"""Find or start the real Kafka, PostgreSQL and Jaeger that tests, benchmarks and chaos runs talk to.

Each is looked for at the address in the environment, then in Docker, then as a local process.
"""
