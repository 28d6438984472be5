"""Do something about one saga, after a look at what would happen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson
from starlette.requests import Request
from starlette.responses import Response

from saga.console.asking import MAX_TEXT
from saga.console.house import House, need
from saga.console.one import whole_of
from saga.console.people import Role
from saga.console.rendering import in_htmx
from saga.console.visits import visit_of
from saga.desk import (
    CancelSaga,
    HoldSaga,
    Mode,
    ReleaseSaga,
    ResolveStep,
    RetryStep,
    RunKey,
    SkipStep,
    Verb,
    Verdict,
)
from saga.errors import SettingsError, VerbRefused

ROLES = {
    "retry": Role.OPERATE,
    "cancel": Role.OPERATE,
    "hold": Role.OPERATE,
    "release": Role.OPERATE,
    "skip": Role.ADMIN,
    "resolve": Role.ADMIN,
}
MAX_RESULT = 32 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Be what a form asks for, checked."""

    word: str
    verb: Verb
    why: str
    mode: Mode


async def act(house: House, request: Request) -> Response:
    """Do a verb to one saga, or tell what it would do.

    Doing needs what the dry run has seen: a saga that has moved on since is looked at again.
    """
    form = visit_of(request).form
    saga_id = form.get("saga_id", "")
    asked = asked_of(form)
    who = need(request, ROLES[asked.word], asked.word).name
    whole = await whole_of(house, saga_id)
    moved = asked.mode is Mode.DO and form.get("seen", "") != str(whole.line.revision)
    mode = Mode.DRY_RUN if moved else asked.mode
    values: dict[str, object] = {"saga_id": saga_id, "asked": asked, "moved": moved, "seen": whole.line.revision}
    try:
        acted = await house.desk.act(saga_id, asked.verb, who=who, why=asked.why, mode=mode)
    except VerbRefused as refused:
        values |= {"acted": None, "sentence": str(refused), "mode": mode}
    else:
        values |= {"acted": acted, "sentence": acted.sentence, "mode": mode}
    template = "_acted.html" if in_htmx(request) else "acted.html"
    return house.pages.page(request, template, values | {"fields": fields_of(form)})


def asked_of(form: Mapping[str, str]) -> Asked:
    """Return what a form asks for; raises SettingsError for what cannot be meant."""
    word, why = form.get("verb", ""), form.get("why", "").strip()
    if word not in ROLES:
        raise SettingsError(f"choose what to do: {', '.join(ROLES)}")
    if not why:
        raise SettingsError("say why: the reason goes into the audit trail")
    if len(why) > MAX_TEXT * 5:
        raise SettingsError(f"the reason is longer than {MAX_TEXT * 5} characters: write less of it")
    mode = Mode.DO if form.get("mode") == Mode.DO else Mode.DRY_RUN
    return Asked(word=word, verb=verb_of(word, form, why), why=why, mode=mode)


def verb_of(word: str, form: Mapping[str, str], why: str) -> Verb:
    """Return the verb that a form names; raises SettingsError."""
    step, _, branch = form.get("run", "").strip().partition("/")
    key = RunKey(step=step, branch=branch)
    match word:
        case "retry":
            return RetryStep(key=key)
        case "cancel":
            return CancelSaga(reason=why)
        case "hold":
            return HoldSaga()
        case "release":
            return ReleaseSaga()
        case _:
            return _stepped(word, key, form, why)


def _stepped(word: str, key: RunKey, form: Mapping[str, str], why: str) -> Verb:
    if not key.step:
        raise SettingsError(f"choose the step to {word}")
    result_type, result = _result_of(form)
    if word == "skip":
        return SkipStep(key=key, reason=why, result_type=result_type, result=result)
    try:
        verdict = Verdict(form.get("verdict", ""))
    except ValueError:
        raise SettingsError("say whether the call has happened: nobody else can") from None
    return ResolveStep(key=key, reason=why, verdict=verdict, result_type=result_type, result=result)


def _result_of(form: Mapping[str, str]) -> tuple[str, bytes]:
    result_type, result = form.get("result_type", "").strip(), form.get("result", "").strip().encode()
    if bool(result_type) != bool(result):
        raise SettingsError("a result needs its type, such as payment.captured.v1, and a type its result as JSON")
    if len(result) > MAX_RESULT:
        raise SettingsError(f"the result is larger than {MAX_RESULT} bytes: give it by `saga skip` or `saga resolve`")
    if result:
        try:
            orjson.loads(result)
        except orjson.JSONDecodeError as error:
            raise SettingsError(f"the result is no JSON: {error}") from None
    return result_type, result


def fields_of(form: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of a form that are sent again to do what has been looked at."""
    kept = ("saga_id", "verb", "run", "verdict", "result_type", "result", "why", "query")
    return {name: form[name] for name in kept if name in form}
