"""Sell something: four services, one saga, money and goods that always add up."""
