-- What is deleted by its age, $1 rows at a time, and what is open.

-- A letter stays while its saga may be open: until its message's expiry, and as long as a gate asks for it. The day
-- is for whoever writes times in another zone than UTC.
-- name: prune_letters
with day as (
    select to_char((clock_timestamp() - interval '1 day') at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS') as ago
), old as (
    select d.ctid as place
    from saga_delivery d
    left join saga_gate g on g.saga_id = d.saga_id and g.service = d.service
    where d.reason = 'dead' and d.due_at < (select clock_timestamp()) - $2::float8 * interval '1 second'
        and (g.keep_until is null or g.keep_until < clock_timestamp())
        and coalesce(
            substring(d.raw_headers from '"ce_expirytime","(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)') collate "C"
                < (select ago from day),
            true
        )
    order by d.due_at
    limit $1
    for update of d skip locked
), gone as (
    delete from saga_delivery d using old where d.ctid = old.place returning 1
)
select count(*) as rows from gone

-- The same of a coordinator's letters, which belong to no saga; its database may have no gates.
-- name: prune_records
with day as (
    select to_char((clock_timestamp() - interval '1 day') at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS') as ago
), old as (
    select d.ctid as place
    from saga_delivery d
    where d.reason = 'dead' and d.due_at < (select clock_timestamp()) - $2::float8 * interval '1 second'
        and d.saga_id = ''
        and coalesce(
            substring(d.raw_headers from '"ce_expirytime","(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)') collate "C"
                < (select ago from day),
            true
        )
    order by d.due_at
    limit $1
    for update of d skip locked
), gone as (
    delete from saga_delivery d using old where d.ctid = old.place returning 1
)
select count(*) as rows from gone

-- Rows come in the order of their time: only the first few are looked at.
-- name: prune_audits
with old as (
    select head.place
    from (select ctid as place, at from saga_audit order by id limit $1 for update skip locked) head
    where head.at < clock_timestamp() - $2::float8 * interval '1 second'
), gone as (
    delete from saga_audit a using old where a.ctid = old.place returning 1
)
select count(*) as rows from gone

-- Found by their start, which has an index: whatever ended that long ago has begun before. A saga is forgotten only
-- past its expiry, which is in its state: until then a late record would make it anew.
-- name: prune_instances
with day as (
    select to_char((clock_timestamp() - interval '1 day') at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS') as ago
), begun as (
    select ctid as place
    from saga_instance
    where coalesce(started_at, timestamptz 'infinity') < (select clock_timestamp()) - $2::float8 * interval '1 second'
        and phase in ('completed', 'compensated') and due_at is null
        and ended_at < (select clock_timestamp()) - $2::float8 * interval '1 second'
        and substring(state from position('"expires":"'::bytea in state) + 11 for 19)
            < convert_to((select ago from day), 'UTF8')
        and (
            position('"keep":"'::bytea in state) = 0
            or substring(state from position('"keep":"'::bytea in state) + 8 for 19)
                < convert_to((select ago from day), 'UTF8')
        )
    order by coalesce(started_at, timestamptz 'infinity'), saga_id
    limit $1
    for update skip locked
), unknown as (
    select ctid as place
    from saga_instance
    where coalesce(started_at, timestamptz 'infinity') = timestamptz 'infinity'
        and phase in ('completed', 'compensated') and due_at is null
        and ended_at < (select clock_timestamp()) - $2::float8 * interval '1 second'
        and substring(state from position('"expires":"'::bytea in state) + 11 for 19)
            < convert_to((select ago from day), 'UTF8')
    limit $1
    for update skip locked
), old as (
    select place from begun union all select place from unknown limit $1
), gone as (
    delete from saga_instance i using old where i.ctid = old.place returning 1
)
select count(*) as rows from gone

-- The newest revision of a version always stays: new sagas start under it.
-- name: prune_plans
with old as (
    select p.saga, p.version, p.revision
    from saga_plan p
    where exists (
            select 1 from saga_plan n
            where n.saga = p.saga and n.version = p.version and n.revision > p.revision
                and n.stored_at < clock_timestamp() - $2::float8 * interval '1 second'
        )
        and not exists (
            select 1 from saga_instance i where i.plan = p.hash and i.phase not in ('completed', 'compensated')
        )
    order by p.saga, p.version, p.revision
    limit $1
    for update of p skip locked
), gone as (
    delete from saga_plan p using old
    where p.saga = old.saga and p.version = old.version and p.revision = old.revision
    returning 1
)
select count(*) as rows from gone

-- name: prune_captured
with old as (
    select head.place
    from (select ctid as place, created_at from saga_outbox_cdc order by seq limit $1 for update skip locked) head
    where head.created_at < clock_timestamp() - $2::float8 * interval '1 second'
), gone as (
    delete from saga_outbox_cdc o using old where o.ctid = old.place returning 1
)
select count(*) as rows from gone

-- A coordinator's database has no runs.
-- name: open_outbox
select
    (select count(*) from (select 1 from saga_outbox limit $1) o) as outbox_rows,
    coalesce(
        (select extract(epoch from clock_timestamp() - created_at) from saga_outbox order by seq limit 1), 0
    )::float8 as outbox_age

-- name: open_rows
select
    (select count(*) from (select 1 from saga_outbox limit $1) o) as outbox_rows,
    (select count(*) from (
        select 1 from saga_delivery where reason in ('retry', 'delayed', 'locked', 'parked') limit $2
    ) d) as waiting_deliveries,
    (select count(*) from (select 1 from saga_run where pending_at is not null limit $3) r) as open_runs,
    coalesce(
        (select extract(epoch from clock_timestamp() - created_at) from saga_outbox order by seq limit 1), 0
    )::float8 as outbox_age
