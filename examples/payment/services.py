"""Name all services of the example: `saga plan examples.payment.services:SERVICES -o examples/payment/plans`."""

from __future__ import annotations

from examples.payment.inventory import inventory
from examples.payment.orders import orders
from examples.payment.payment import payment
from examples.payment.shipping import shipping

SERVICES = (orders, inventory, payment, shipping)
