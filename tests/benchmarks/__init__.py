"""Measure on real servers; each module is a program that prints one line of JSON per case."""
