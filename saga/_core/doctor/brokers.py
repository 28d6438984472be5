"""Find what is wrong with a broker, from its facts; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from saga._core.brokers import GroupState, Presence, Weight
from saga._core.doctor.facts import BrokerFacts, Trouble
from saga._core.doctor.findings import Code, Found, Limits, Severity, run_of

COORDINATOR_GROUP = "saga-coordinator"
UUID_CHARS = 36
_NAMED = 3
_NOBODY = ("Empty", "Dead", "")


def broker_findings(facts: BrokerFacts, limits: Limits, open_sagas: int) -> Iterator[Found]:
    """Yield what is wrong with a broker; one that cannot be asked has that one finding."""
    if facts.barred is not None:
        is_away = facts.barred.trouble is Trouble.AWAY
        code = Code.BROKER_AWAY if is_away else Code.BROKER_REFUSED
        mend = f"kafka-broker-api-versions --bootstrap-server {facts.bootstrap}" if is_away else "saga config"
        text = f"cannot be used: {facts.barred.text}"
        yield Found(severity=Severity.UNAVAILABLE, code=code, where=facts.name, text=text, mend=mend)
        return
    yield from _topics(facts)
    yield from _groups(facts, open_sagas)
    yield from _unowned(facts)
    yield from _slots(facts)
    if facts.ahead:
        text = f"messages in {', '.join(facts.ahead)} are dated over {limits.ahead_seconds:.0f} s from now on: "
        text += "the clock of this machine is behind, or that of a machine that writes is ahead; set them right (NTP)"
        mend = "timedatectl set-ntp true; chronyc makestep"
        yield Found(severity=Severity.RISK, code=Code.CLOCK_AHEAD, where=facts.name, text=text, mend=mend)


def _topics(facts: BrokerFacts) -> Iterator[Found]:
    missing = [topic.name for topic in facts.topics if topic.presence is Presence.MISSING]
    if missing:
        text = f"topics are missing: {', '.join(missing)}"
        mend = "saga topics create TARGET --transport TRANSPORT"
        yield Found(severity=Severity.WRONG, code=Code.TOPICS_MISSING, where=facts.name, text=text, mend=mend)
    hidden = [topic.name for topic in facts.topics if topic.presence is Presence.HIDDEN]
    if hidden:
        text = f"{facts.principal} has no right to see {', '.join(hidden)}"
        mend = _grant(facts, "--operation Describe --operation Read --operation Write", "topic", hidden)
        yield Found(severity=Severity.WRONG, code=Code.ACL_TOPICS, where=facts.name, text=text, mend=mend)
    codes = {
        Weight.REFUSED: Code.TOPIC_WRONG,
        Weight.UNAVAILABLE: Code.TOPIC_UNAVAILABLE,
        Weight.WARNING: Code.TOPIC_RISK,
    }
    for topic in facts.topics:
        for problem in topic.problems:
            severity = Severity.RISK if problem.weight is Weight.WARNING else Severity.WRONG
            text = problem.text.partition("; run ")[0]
            code = codes[problem.weight]
            yield Found(severity=severity, code=code, where=facts.name, text=text, mend=problem.command)


def _grant(facts: BrokerFacts, operations: str, kind: str, names: Sequence[str]) -> str:
    named = " ".join(f"--{kind} {name}" for name in names)
    allow = f"--add --allow-principal {facts.principal} {operations}"
    return f"kafka-acls --bootstrap-server {facts.bootstrap} {allow} {named}"


def _groups(facts: BrokerFacts, open_sagas: int) -> Iterator[Found]:
    before = {group.name: group for group in facts.before}
    denied = [group.name for group in facts.groups if group.denied]
    if denied:
        text = f"{facts.principal} has no right to look at the groups {', '.join(denied)}, and so none to join them"
        mend = _grant(facts, "--operation Read", "group", denied)
        yield Found(severity=Severity.WRONG, code=Code.ACL_GROUPS, where=facts.name, text=text, mend=mend)
    for group in facts.groups:
        if group.denied:
            continue
        if group.name == COORDINATOR_GROUP and not group.members:
            yield _no_coordinator(facts, group, open_sagas)
        elif group.lag and not group.members and group.state in _NOBODY:
            text = f"nobody reads as group {group.name}: {group.lag} messages wait for that service; start it"
            mend = run_of(group.name)
            yield Found(severity=Severity.WRONG, code=Code.GROUP_EMPTY, where=facts.name, text=text, mend=mend)
        elif _stands_still(before.get(group.name), group):
            text = (
                f"group {group.name} stands still with {group.lag} messages to read and "
                f"{len(group.members)} members ({group.state}): the log of its replicas says why; restart them"
            )
            mend = f"kafka-consumer-groups --bootstrap-server {facts.bootstrap} --describe --group {group.name}"
            yield Found(severity=Severity.WRONG, code=Code.GROUP_STUCK, where=facts.name, text=text, mend=mend)


def _no_coordinator(facts: BrokerFacts, group: GroupState, open_sagas: int) -> Found:
    needed = bool(group.lag or open_sagas)
    text = "no coordinator is at work: no saga ends, no deadline fires"
    if group.lag:
        text += f"; {group.lag} records wait for one"
    mend = "saga coordinator --transport TRANSPORT"
    severity = Severity.WRONG if needed else Severity.RISK
    return Found(severity=severity, code=Code.COORDINATOR_ABSENT, where=facts.name, text=text, mend=mend)


def _stands_still(before: GroupState | None, group: GroupState) -> bool:
    """Return whether a group with members has read nothing between two looks, and has something to read in both."""
    if before is None or not before.lag or not group.lag:
        return False
    return [(p.topic, p.partition, p.committed) for p in before.partitions] == [
        (p.topic, p.partition, p.committed) for p in group.partitions
    ]


def _unowned(facts: BrokerFacts) -> Iterator[Found]:
    """Yield groups in which no member has some partition, in both of two looks."""
    before = {group.name: frozenset(group.unowned) for group in facts.before}
    for group in facts.groups:
        if still := [place for place in group.unowned if place in before.get(group.name, frozenset())]:
            named = ", ".join(still[:_NAMED]) + (", …" if len(still) > _NAMED else "")
            text = (
                f"group {group.name}: no member reads {len(still)} partitions ({named}): their topic was made anew or "
                "has grown. The members share them out within 20 s; if not, stop all for longer than session_seconds"
            )
            mend = f"kafka-consumer-groups --bootstrap-server {facts.bootstrap} --describe --group {group.name}"
            yield Found(severity=Severity.WRONG, code=Code.PARTITION_UNOWNED, where=facts.name, text=text, mend=mend)


def _slots(facts: BrokerFacts) -> Iterator[Found]:
    """Yield members whose place another process has taken between two looks."""
    before = {name: member for group in facts.before for name, member in _seats(group)}
    for group in facts.groups:
        for name, member in _seats(group):
            if before.get(name, member) != member:
                text = (
                    f"two processes have the slot of {name} in group {group.name} and throw each other out, or one has "
                    "just started again: give every process a slot of its own"
                )
                mend = "export SAGA_SLOT=1  # another number in each process"
                yield Found(severity=Severity.WRONG, code=Code.SLOT_TWICE, where=facts.name, text=text, mend=mend)


def _seats(group: GroupState) -> Iterator[tuple[str, str]]:
    """Yield each static member's own name and the ID that the broker gave it when it joined."""
    for member in group.members:
        name, joined = member[: -UUID_CHARS - 1], member[-UUID_CHARS:]
        # A dynamic member has an ID of its own each time, and the client's name before it.
        if name.startswith(f"{group.name}-"):
            yield name, joined
