"""Map the tables of both services; each lies in the database of its own service."""

from __future__ import annotations

from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class OrdersBase(DeclarativeBase):
    metadata = MetaData()


class Order(OrdersBase):
    __tablename__ = "orders"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    sku: Mapped[str]
    quantity: Mapped[int]
    state: Mapped[str] = mapped_column(default="open")
    reason: Mapped[str] = mapped_column(default="")


class StockBase(DeclarativeBase):
    metadata = MetaData()


class Goods(StockBase):
    __tablename__ = "goods"
    __table_args__ = (CheckConstraint("free >= 0"),)

    sku: Mapped[str] = mapped_column(primary_key=True)
    free: Mapped[int]
