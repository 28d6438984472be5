-- What a console asks for. Every list reads one of the sources in the place of `saga_instance i`; their own parameters
-- are numbered from 1 on. An empty text, number or array stands for "any". Planned anew each time, for the parameters given.

-- name: sagas_started
select * from saga_instance

-- The rows of a page alone are read, not those that were passed over on the way.
-- name: sagas_picked
select s.* from (
    select saga_id from saga_instance
    where ($1 = '' or saga = $1) and ($2::integer = 0 or version = $2) and ($3 = '' or tenant = $3)
        and (cardinality($4::text[]) = 0 or phase = any($4::text[]))
        and ($5::timestamptz is null or coalesce(started_at, timestamptz 'infinity') >= $5)
        and ($6::timestamptz is null or coalesce(started_at, timestamptz 'infinity') < $6)
        and (($5::timestamptz is null and $6::timestamptz is null) or started_at is not null)
        and (
            $8::text is null
            or (coalesce(started_at, timestamptz 'infinity'), saga_id) < (coalesce($7, timestamptz 'infinity'), $8)
        )
    order by coalesce(started_at, timestamptz 'infinity') desc, saga_id desc
    limit $9
) p
join saga_instance s on s.saga_id = p.saga_id

-- name: count_picked
select phase, count(*) as sagas from (
    select phase from saga_instance
    where ($1 = '' or saga = $1) and ($2::integer = 0 or version = $2) and ($3 = '' or tenant = $3)
        and (cardinality($4::text[]) = 0 or phase = any($4::text[]))
        and ($5::timestamptz is null or coalesce(started_at, timestamptz 'infinity') >= $5)
        and ($6::timestamptz is null or coalesce(started_at, timestamptz 'infinity') < $6)
        and (($5::timestamptz is null and $6::timestamptz is null) or started_at is not null)
    order by coalesce(started_at, timestamptz 'infinity') desc, saga_id desc
    limit $7
) p
group by phase

-- name: sagas_open
select * from saga_instance where phase not in ('completed', 'compensated')

-- name: sagas_ended
select * from saga_instance where ended_at is not null

-- name: sagas_troubled
select * from saga_instance where error <> ''

-- name: sagas_said
select * from saga_instance where error <> '' and (step = $1 or position(lower($1) in lower(error)) > 0)

-- name: sagas_named
select * from saga_instance where saga_id = any($1::text[])

-- What begins alike are few: all of them are read before they are sorted.
-- name: sagas_beginning
select * from saga_instance where saga_id >= $1 and saga_id < $2 offset 0

-- name: list_sagas
select i.saga_id, i.saga, i.version, i.plan, i.tenant, i.phase, i.step, i.error, i.due_at, i.started_at, i.ended_at,
    i.revision, position('"mark":"held"'::bytea in i.state) > 0 as held
from saga_instance i
where ($1 = '' or i.saga = $1) and ($2::integer = 0 or i.version = $2)
    and (cardinality($3::text[]) = 0 or i.phase = any($3::text[])) and ($4 = '' or i.tenant = $4)
    and ($5 = '' or i.step = $5) and ($6 = '' or position(lower($6) in lower(i.error)) > 0)
    and ($7::timestamptz is null or coalesce(i.started_at, timestamptz 'infinity') >= $7)
    and ($8::timestamptz is null or coalesce(i.started_at, timestamptz 'infinity') < $8)
    and (($7::timestamptz is null and $8::timestamptz is null) or i.started_at is not null)
    and ($9::timestamptz is null or i.ended_at >= $9) and ($10::timestamptz is null or i.ended_at < $10)
    and (cardinality($11::text[]) = 0 or i.saga_id = any($11::text[]))
    and ($12::text = '' or (i.saga_id >= $12 and i.saga_id < $13))
    and (
        $15::text is null
        or (coalesce(i.started_at, timestamptz 'infinity'), i.saga_id) < (coalesce($14, timestamptz 'infinity'), $15)
    )
order by coalesce(i.started_at, timestamptz 'infinity') desc, i.saga_id desc

-- name: open_census
select saga, version, phase, plan, count(*) as sagas from saga_instance
where phase not in ('completed', 'compensated')
group by saga, version, phase, plan order by saga, version, phase, plan

-- How many sagas began and ended in each minute, up to a number.
-- name: count_minutes
select m.at, s.started, e.completed, e.compensated
from unnest($1::timestamptz[]) as m (at)
cross join lateral (
    select count(*) as started from (
        select 1 from saga_instance i
        where coalesce(i.started_at, timestamptz 'infinity') >= m.at
            and coalesce(i.started_at, timestamptz 'infinity') < m.at + interval '1 minute'
        limit $2
    ) s
) s
cross join lateral (
    select count(*) filter (where e.phase = 'completed') as completed,
        count(*) filter (where e.phase = 'compensated') as compensated
    from (
        select i.phase from saga_instance i
        where i.ended_at >= m.at and i.ended_at < m.at + interval '1 minute'
        limit $2
    ) e
) e
order by m.at

-- name: oversee_cursors
select c.partition, c.position, c.observed_until, i.due_at as next_due
from saga_cursor c
left join lateral (
    select due_at from saga_instance i
    where i.partition = c.partition and i.due_at is not null
    order by i.due_at
    limit 1
) i on true
order by c.partition

-- name: oversee_plans
select saga, version, revision, hash, body, stored_at from saga_plan order by saga, version desc, revision desc

-- name: oversee_instance
select * from saga_instance where saga_id = $1

-- Traces are in no index: only the newest sagas are looked through.
-- name: saga_of_trace
select n.saga_id from (
    select saga_id, state from saga_instance
    order by coalesce(started_at, timestamptz 'infinity') desc, saga_id desc
    limit $2
) n
where position(convert_to($1, 'UTF8') in n.state) > 0
limit 1

-- name: revision_of_instance
select revision from saga_instance where saga_id = $1

-- Times move where a revision does not, and the other way round.
-- name: revision_of_runs
select
    (select coalesce(sum(revision), 0) from saga_run where saga_id = $1)::bigint as runs,
    (select count(*) from saga_gate where saga_id = $1) as gates,
    (select string_agg(state || mark || mark_number, ',' order by service) from saga_gate where saga_id = $1) as marks

-- name: revision_of_rows
select
    (select coalesce(max(id), 0) from saga_audit where saga_id = $1) as audits,
    (select string_agg(id || reason || attempt, ',' order by id) from saga_delivery where saga_id = $1) as deliveries

-- name: list_dead_lines
select id, service, saga_id, step, error, attempt, message_id, due_at, raw_topic, raw_partition, raw_offset,
    coalesce(octet_length(raw_value), 0) as bytes
from saga_delivery
where reason = 'dead' and ($1::bigint = 0 or id < $1)
    and ($2 = '' or service = $2) and ($3 = '' or saga_id = $3) and ($4 = '' or step = $4)
    and ($5 = '' or position($5 in error) > 0)
    and (cardinality($6::bigint[]) = 0 or id = any($6::bigint[])) and ($7::bigint = 0 or id <= $7)
order by id desc
limit $8

-- name: count_dead
select count(*) as letters, coalesce(extract(epoch from clock_timestamp() - min(due_at)), 0)::float8 as oldest
from (select due_at from saga_delivery where reason = 'dead' order by due_at limit $1) d

-- name: list_audits
select * from saga_audit
where ($1::bigint = 0 or id < $1) and ($2 = '' or saga_id = $2) and ($3 = '' or who = $3) and ($4 = '' or verb = $4)
order by id desc
limit $5

-- What moves when there is something new to show. A role may be allowed to read the rows and not the sequence.
-- name: marks_of_coordinator
select
    (select coalesce(sum(position), 0) from saga_cursor)::text as read,
    (select count(*) || '/' || coalesce(max(stored_at)::text, '') from saga_plan) as plans

-- name: marks_of_database
select
    coalesce(
        case when has_sequence_privilege(pg_get_serial_sequence('saga_outbox', 'seq'), 'SELECT, USAGE')
        then pg_sequence_last_value(pg_get_serial_sequence('saga_outbox', 'seq')::regclass)
        else (select max(seq) from saga_outbox) end,
        0
    ) as sent,
    (select coalesce(min(seq), 0) from saga_outbox) as unsent,
    (select count(*) from (select 1 from saga_delivery where reason = 'dead' limit 10001) d) as dead,
    (select coalesce(max(id), 0) from saga_delivery where reason = 'dead') as newest,
    (select coalesce(max(id), 0) from saga_audit) as audits
