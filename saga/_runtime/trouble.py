"""Carry what went wrong in a user's handler."""

from __future__ import annotations

from pydantic import ValidationError

from saga.errors import StoreError


class HandlerTrouble(Exception):
    """Carry what a user's handler raised, with a text fit for rows and reports."""

    def __init__(self, error: BaseException, met: StoreError | None = None) -> None:
        """Keep `error`; `met` is what the handler's own transaction has met, if anything."""
        self.error = error
        self.met = met
        super().__init__(f"{type(error).__name__}: {text_of(error)}"[:200])


def text_of(error: BaseException) -> str:
    """Return what an error says; its text is the user's code too."""
    try:
        # A misfit in the user's own code says the values; nothing of them may end up in a row or a report.
        return misfit_text(error) if isinstance(error, ValidationError) else str(error)
    except Exception:  # noqa: BLE001 - the text is the user's code too
        return "(its text cannot be printed)"


def misfit_text(error: Exception) -> str:
    """Return why a payload cannot be read, without its values."""
    if not isinstance(error, ValidationError):
        return str(error)
    fields = (f"{'.'.join(str(part) for part in e['loc']) or 'payload'}: {e['msg']}" for e in error.errors()[:5])
    return f"payload does not fit {error.title}: " + "; ".join(fields)
