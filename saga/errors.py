"""Name everything that can go wrong, each error saying what to change."""

from __future__ import annotations


class SagaError(Exception):
    """Be the base of every error this package raises on purpose."""


class DeclarationError(SagaError):
    """Report a declaration that cannot work; the message names service, step and event and says what to change."""


class PlanError(SagaError):
    """Report plans that do not fit the code or each other; `problems` holds one sentence for each finding."""

    def __init__(self, problems: tuple[str, ...] | list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class PlanUnknown(SagaError):
    """Report that no checked plan is known for a saga; nothing was written."""


class KeyConflict(SagaError):
    """Report a second start under a business key with another payload; nothing was written."""


class Overloaded(SagaError):
    """Report a start that was refused, by a row cap or while a dependency of its plan is out; nothing was written.

    `dependency` names it, and `retry_after_seconds` says when to try again; "" and 0 for a row cap.
    """

    def __init__(self, message: str, *, dependency: str = "", retry_after_seconds: float = 0.0) -> None:
        self.dependency = dependency
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class VerbRefused(SagaError):
    """Report that a person's verb cannot be done to this saga now, and why; nothing was written."""


class LockHeld(SagaError):
    """Report that saga `held_by` holds an entity, or comes before.

    A step that asked to wait runs again whatever it makes of this; one that asked for REFUSE may return a refusal.
    """

    def __init__(self, message: str, *, entity: str, held_by: str) -> None:
        self.entity = entity
        self.held_by = held_by
        super().__init__(message)


class NotRunning(SagaError):
    """Report a call that needs a running `App`."""


class OutcomePending(SagaError):
    """Report that a saga had not ended within the caller's timeout; the saga itself goes on."""


class SettingsError(SagaError):
    """Report a setting (URL, number, name) that cannot be used, and what would be accepted."""


class SchemaMismatch(SettingsError):
    """Report tables of a database that this version cannot work on, and the command or the version that can."""


class Undecodable(SagaError):
    """Report a message that cannot be read; it belongs into the dead letters with its raw bytes."""


class TooLarge(SagaError):
    """Report a message over a limit, found before anything was written or sent."""


class Transient(Exception):
    """Raise in a handler to say that another attempt may succeed; `retry_after_seconds` says not before when.

    Any exception is taken like that, so this one is for Retry-After. A wait beyond the policy's window is the end.
    """

    def __init__(self, message: str = "", *, retry_after_seconds: float = 0.0) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class Permanent(Exception):
    """Raise in a handler to say that no further attempt can succeed: the step has failed at once.

    A step that must succeed is alarmed and tried again after the longest pause of its policy.
    """


class StillSealed(Undecodable, Permanent):
    """Report a payload that cannot be opened: its key is erased or not known here; no attempt can do better."""


class StoreError(SagaError):
    """Be the base of what a store reports."""


class StoreUnavailable(StoreError):
    """Report that the database could not be reached or dropped the connection; the transaction did not commit."""


class GrantMissing(StoreUnavailable):
    """Report what the user of the database may not do, and the GRANT that mends it; rolled back, safe to repeat."""


class CommitUnknown(StoreUnavailable):
    """Report that the connection broke during COMMIT; whether it happened is not known."""


class Contended(StoreError):
    """Report a deadlock, a lock timeout or a serialization failure; rolled back, safe to repeat at once."""


class Conflict(StoreError):
    """Report that a row was inserted or changed by somebody else first; rolled back, read again and repeat."""


class Gone(Conflict):
    """Report that a waiting delivery has been dealt with by somebody else; rolled back, and not to be repeated."""


class TransportError(SagaError):
    """Be the base of what a transport reports."""


class TransportUnavailable(TransportError):
    """Report that the broker could not be reached within the timeout; may be retried."""


class TransportRefused(TransportError):
    """Report what retrying cannot mend (wrong password, certificate, unknown topic), and the real reason."""


class PositionLost(TransportError):
    """Report that a stored position no longer exists on the broker; the reader stops and never resets by itself."""


class Revoked(TransportError):
    """Report a commit or seek for a partition that is no longer assigned; counts as not committed."""
