-- What a console asks for. Every list reads one of the sources in the place of `saga_instance i`; their own parameters
-- are numbered from 1 on. An empty text, number or array stands for "any". SQLite is told which index to use: it has no
-- statistics to choose by.

-- name: sagas_started
select * from saga_instance indexed by saga_instance_started

-- name: sagas_open
select * from saga_instance indexed by saga_instance_started where phase not in ('completed', 'compensated')

-- name: sagas_ended
select * from saga_instance indexed by saga_instance_started where ended_at is not null

-- name: sagas_troubled
select * from saga_instance indexed by saga_instance_troubled where error <> ''

-- name: sagas_said
select * from saga_instance indexed by saga_instance_troubled
where error <> '' and (step = ?1 or instr(lower(error), lower(?1)) > 0)

-- name: sagas_named
select * from saga_instance where saga_id in (select value from json_each(?1))

-- What begins alike are few: the order is made afterwards.
-- name: sagas_beginning
select * from saga_instance where saga_id >= ?1 and saga_id < ?2

-- name: list_sagas
select i.saga_id, i.saga, i.version, i.plan, i.tenant, i.phase, i.step, i.error, i.due_at, i.started_at, i.ended_at,
    i.revision, instr(i.state, cast('"mark":"held"' as blob)) > 0 as held
from saga_instance i
where (?1 = '' or i.saga = ?1) and (?2 = 0 or i.version = ?2)
    and (?3 = '[]' or i.phase in (select value from json_each(?3))) and (?4 = '' or i.tenant = ?4)
    and (?5 = '' or i.step = ?5) and (?6 = '' or instr(lower(i.error), lower(?6)) > 0)
    and (?7 is null or coalesce(i.started_at, 9223372036854775807) >= ?7)
    and (?8 is null or coalesce(i.started_at, 9223372036854775807) < ?8)
    and ((?7 is null and ?8 is null) or coalesce(i.started_at, 9223372036854775807) < 9223372036854775807)
    and (?9 is null or i.ended_at >= ?9) and (?10 is null or i.ended_at < ?10)
    and (?11 = '[]' or i.saga_id in (select value from json_each(?11)))
    and (?12 = '' or (i.saga_id >= ?12 and i.saga_id < ?13))
    and (
        ?15 is null
        or (coalesce(i.started_at, 9223372036854775807), i.saga_id) < (coalesce(?14, 9223372036854775807), ?15)
    )
order by coalesce(i.started_at, 9223372036854775807) desc, i.saga_id desc

-- name: open_census
select saga, version, phase, plan, count(*) as sagas from saga_instance indexed by saga_instance_started
where phase not in ('completed', 'compensated')
group by saga, version, phase, plan order by saga, version, phase, plan

-- How many sagas began and ended in each minute, up to a number.
-- name: count_minutes
select m.value as at,
    (
        select count(*) from (
            select 1 from saga_instance i
            where coalesce(i.started_at, 9223372036854775807) >= m.value
                and coalesce(i.started_at, 9223372036854775807) < m.value + 60000000
            limit ?2
        )
    ) as started,
    (
        select count(*) from (
            select 1 from saga_instance i
            where i.ended_at >= m.value and i.ended_at < m.value + 60000000 and i.phase = 'completed'
            limit ?2
        )
    ) as completed,
    (
        select count(*) from (
            select 1 from saga_instance i
            where i.ended_at >= m.value and i.ended_at < m.value + 60000000 and i.phase = 'compensated'
            limit ?2
        )
    ) as compensated
from json_each(?1) m
order by m.value

-- name: oversee_cursors
select c.partition, c.position, c.observed_until,
    (select min(i.due_at) from saga_instance i where i.partition = c.partition and i.due_at is not null) as next_due
from saga_cursor c
order by c.partition

-- name: oversee_plans
select saga, version, revision, hash, body, stored_at from saga_plan order by saga, version desc, revision desc

-- name: oversee_instance
select * from saga_instance where saga_id = ?1

-- Traces are in no index: only the newest sagas are looked through.
-- name: saga_of_trace
select n.saga_id from (
    select saga_id, state from saga_instance indexed by saga_instance_started
    order by coalesce(started_at, 9223372036854775807) desc, saga_id desc
    limit ?2
) n
where instr(n.state, cast(?1 as blob)) > 0
limit 1

-- name: revision_of_instance
select revision from saga_instance where saga_id = ?1

-- Times move where a revision does not, and the other way round.
-- name: revision_of_runs
select
    (select coalesce(sum(revision), 0) from saga_run where saga_id = ?1) as runs,
    (select count(*) from saga_gate where saga_id = ?1) as gates,
    (
        select group_concat(mark, ',') from (
            select state || mark || mark_number as mark from saga_gate where saga_id = ?1 order by service
        )
    ) as marks

-- name: revision_of_rows
select
    (select coalesce(max(id), 0) from saga_audit where saga_id = ?1) as audits,
    (
        select group_concat(mark, ',') from (
            select id || reason || attempt as mark from saga_delivery where saga_id = ?1 order by id
        )
    ) as deliveries

-- name: list_dead_lines
select id, service, saga_id, step, error, attempt, message_id, due_at, raw_topic, raw_partition, raw_offset,
    coalesce(length(raw_value), 0) as bytes
from saga_delivery indexed by saga_delivery_dead
where reason = 'dead' and (?1 = 0 or id < ?1)
    and (?2 = '' or service = ?2) and (?3 = '' or saga_id = ?3) and (?4 = '' or step = ?4)
    and (?5 = '' or instr(error, ?5) > 0)
    and (?6 = '[]' or id in (select value from json_each(?6))) and (?7 = 0 or id <= ?7)
order by id desc
limit ?8

-- name: count_dead
select count(*) as letters, min(due_at) as oldest
from (select due_at from saga_delivery indexed by saga_delivery_died where reason = 'dead' order by due_at limit ?1)

-- name: list_audits
select * from saga_audit
where (?1 = 0 or id < ?1) and (?2 = '' or saga_id = ?2) and (?3 = '' or who = ?3) and (?4 = '' or verb = ?4)
order by id desc
limit ?5

-- What moves when there is something new to show.
-- name: marks_of_coordinator
select
    (select coalesce(sum(position), 0) from saga_cursor) as read,
    (select count(*) || '/' || coalesce(max(stored_at), '') from saga_plan) as plans

-- name: marks_of_database
select
    coalesce((select seq from sqlite_sequence where name = 'saga_outbox'), 0) as sent,
    (select coalesce(min(seq), 0) from saga_outbox) as unsent,
    (select count(*) from (select 1 from saga_delivery where reason = 'dead' limit 10001)) as dead,
    (select coalesce(max(id), 0) from saga_delivery where reason = 'dead') as newest,
    (select coalesce(max(id), 0) from saga_audit) as audits
