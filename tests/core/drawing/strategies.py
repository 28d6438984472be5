"""Draw sagas at random: any plan, any records, odd names, clocks that disagree."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from hypothesis import strategies as st

from saga._core.bodies import RefusalData, RunFact
from saga._core.drawing import Story
from saga._core.inspecting import SagaRows
from saga._core.instance import Answer, Phase, UndoStep
from saga._core.words import Cause, RunKey, RunStatus, UndoStatus
from tests.core.drawing import samples

ODD = st.one_of(
    st.sampled_from(['<script>alert("x")</script>', "a&b", "'", '"', "]]>", "\x00\x08\ufffe", "日本語", "é" * 300]),
    st.text(st.characters(codec="utf-8"), max_size=40),
)
STATUSES = st.sampled_from(RunStatus)


@st.composite
def facts(draw: st.DrawFn, odd: st.SearchStrategy[str] = ODD) -> list[RunFact]:
    plan = samples.parcels()
    names = [plan.start, *(step.name for step in plan.steps)]
    strange = draw(odd)
    made: dict[RunKey, RunFact] = {}
    for _ in range(draw(st.integers(0, 14))):
        name = draw(st.sampled_from([*names, f"x{strange}.{strange}".replace("/", "")]))
        branch = draw(st.sampled_from(("", "1of3", "2of3", "3of3", strange.replace("/", ""))))
        causes = draw(st.lists(st.sampled_from(sorted(made)), max_size=3, unique=True)) if made else []
        emits = draw(st.sampled_from([(), ("parcel.wanted.v1",), (strange,)]))
        fact = RunFact(
            step=name,
            branch=branch,
            status=draw(STATUSES),
            causes=tuple(causes),
            emits=emits,
            fan_out=draw(st.sampled_from([None, 0, 3])) if emits else None,
            at=samples.at(draw(st.sampled_from([0.0, 1e-6, 0.5, 3, 3, 4, 90_000])) + draw(st.floats(0, 1))),
            attempts=draw(st.integers(0, 30)),
            refusal=draw(st.sampled_from([None, RefusalData(type=strange or "x", data=b"{}")])),
            error=strange,
        )
        made[fact.key] = fact
    return list(made.values())


@st.composite
def rows(draw: st.DrawFn, found: list[RunFact]) -> SagaRows | None:
    """Draw what participants keep of some of the runs, by clocks of their own."""
    seconds = st.none() | st.floats(-10, 100_000)

    def when() -> datetime | None:
        drawn = draw(seconds)
        return None if drawn is None else samples.at(drawn)

    kept = [
        replace(
            samples.undone_row(fact, 0),
            undo=draw(st.sampled_from(UndoStatus)),
            undone_at=when(),
            first_called_at=when(),
            done_at=when(),
        )
        for fact in found
        if draw(st.booleans())
    ]
    return SagaRows(runs=tuple(kept)) if kept else None


@st.composite
def stories(draw: st.DrawFn) -> Story:
    found = draw(facts())
    keys = [fact.key for fact in found]
    undone = draw(st.lists(st.sampled_from(keys), unique=True)) if keys else []
    ended = draw(st.booleans())
    phase = draw(st.sampled_from([Phase.COMPLETED, Phase.COMPENSATED] if ended else [Phase.RUNNING, Phase.CLOSING]))
    detail = draw(ODD)
    return samples.story(
        samples.parcels(),
        found,
        draw(st.sampled_from([-5.0, 0.0, 3.5, 1e6])),
        draw(rows([*found, *draw(facts())])),
        phase=phase,
        ended_at=samples.at(draw(st.floats(0, 10))) if ended else None,
        undos={key: draw(st.sampled_from(UndoStep)) for key in undone},
        answers={name: draw(st.sampled_from(Answer)) for name in draw(st.sets(st.sampled_from(("depot", detail))))},
        cause=draw(st.sampled_from([None, Cause.FAILED])),
        detail=detail,
        stuck=draw(st.sampled_from([None, Cause.OVERDUE])),
        stuck_detail=detail,
    )
