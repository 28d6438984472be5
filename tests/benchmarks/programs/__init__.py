"""Run the same saga in different programs; each module is a process of its own that prints a line of JSON per case.

A saga is a race of four runners: it starts, each runner's service inserts its lap in the transaction in which it takes
the event before and writes the next, and the starter learns of the end. Everything is durable: commits wait for the
disk, the broker acknowledges every event, nothing is lost or done twice when a process dies anywhere.
"""
