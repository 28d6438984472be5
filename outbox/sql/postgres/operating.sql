-- What people ask for. An empty text, number or array stands for "any".

-- name: tables
select to_regclass('saga_delivery') is not null and to_regclass('saga_audit') is not null as shared,
    to_regclass('saga_run') is not null as participant, to_regclass('saga_instance') is not null as coordinator

-- name: list_dead
select * from saga_delivery
where reason = 'dead' and id > $1
    and ($2 = '' or service = $2) and ($3 = '' or saga_id = $3) and ($4 = '' or step = $4)
    and ($5 = '' or position($5 in error) > 0)
    and (cardinality($6::bigint[]) = 0 or id = any($6::bigint[])) and ($7::bigint = 0 or id <= $7)
order by id
limit $8

-- name: last_dead
select coalesce(max(id), 0) as id from saga_delivery where reason = 'dead'

-- name: show_dead
select * from saga_delivery where id = $1 and reason = 'dead'

-- name: group_dead
select service, step, left(error, $1) as error, count(*) as letters,
    extract(epoch from clock_timestamp() - min(due_at))::float8 as oldest
from saga_delivery
where reason = 'dead'
group by service, step, left(error, $1)
order by letters desc, service, step, error
limit $2

-- In the order of the primary key: two people who meet wait for each other in one direction only.
-- name: lock_dead
select * from saga_delivery where id = any($1::bigint[]) and reason = 'dead' order by id for update

-- name: waiting_keys
select d.service, d.saga_id, d.step, d.message_id
from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as k (service, saga_id, step, message_id)
join saga_delivery d on d.service = k.service and d.saga_id = k.saga_id and d.step = k.step
    and d.message_id = k.message_id
where d.reason in ('retry', 'delayed', 'locked', 'held') and d.message_id <> ''

-- name: retry_letters
update saga_delivery set reason = 'retry', attempt = 0, first_at = null, due_at = clock_timestamp() where id = any($1::bigint[])

-- name: delete_letters
delete from saga_delivery where id = any($1::bigint[])

-- Part of a write.
-- name: insert_audits
insert into saga_audit (at, who, why, verb, saga_id, target, before, after)
select * from unnest(
    $1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::bytea[]
)

-- name: audits
select * from saga_audit order by id desc limit $1

-- name: audits_of
select * from saga_audit where saga_id = $1 order by id desc limit $2

-- A saga whose start nobody knows comes first: it needs somebody to look at it.
-- name: find_instances
select * from saga_instance
where ($1 = '' or saga = $1) and ($2::integer = 0 or version = $2)
    and (cardinality($3::text[]) = 0 or phase = any($3::text[])) and ($4 = '' or tenant = $4)
    and ($5::timestamptz is null or started_at >= $5) and ($6::timestamptz is null or started_at < $6)
    and (
        $8::text is null
        or (coalesce(started_at, timestamptz 'infinity'), saga_id) < (coalesce($7, timestamptz 'infinity'), $8)
    )
order by coalesce(started_at, timestamptz 'infinity') desc, saga_id desc
limit $9

-- name: count_instances
select saga, version, phase, count(*) as sagas from saga_instance
group by saga, version, phase order by saga, version, phase

-- name: footprint_runs
select * from saga_run where saga_id = $1 order by created_at, step, branch limit $2

-- name: footprint_gates
select * from saga_gate where saga_id = $1 order by service limit $2

-- name: footprint_deliveries
select * from saga_delivery where saga_id = $1 order by id limit $2

-- Ends whose handler fails: outcomes that wait for another attempt.
-- name: untold_ends
select saga_id, service, attempt, error from saga_delivery
where reason = 'retry' and step = '' and attempt > 0 and raw_topic like 'saga.outcomes%'
    and (cardinality($1::text[]) = 0 or saga_id = any($1::text[]))
order by attempt desc, saga_id, service
limit $2
