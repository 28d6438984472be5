-- The row is locked whether anybody holds the entity or not: from here on one transaction at a time decides about it.
-- name: claim_lock
insert into saga_lock (service, kind, entity, saga_id, taken_at, expires_at)
values ($1, $2, $3, '', clock_timestamp(), clock_timestamp())
on conflict (service, kind, entity) do update set kind = excluded.kind

-- A statement of its own: the snapshot of the one before is older than the row it may have waited for.
-- name: see_lock
select clock_timestamp() as now, l.saga_id, l.expires_at, g.keep_until, mine.since, (
    select q.saga_id
    from saga_lock_queue q
    join saga_delivery d on d.service = q.service and d.saga_id = q.saga_id and d.step = q.step
        and d.message_id = q.message_id and d.reason in ('retry', 'locked')
    where q.service = l.service and q.kind = l.kind and q.entity = l.entity
        and q.otherwise = 'queue' and q.saga_id <> $4
        and (mine.place is null or q.place < mine.place)
    order by q.place
    limit 1
) as ahead
from saga_lock l
left join saga_gate g on g.saga_id = l.saga_id and g.service = l.service
left join saga_lock_queue mine on mine.service = l.service and mine.kind = l.kind and mine.entity = l.entity
    and mine.saga_id = $4 and mine.step = $5 and mine.message_id = $6
where l.service = $1 and l.kind = $2 and l.entity = $3

-- What else of the saga waits for the entity goes on too.
-- name: take_lock
with held as (
    update saga_lock set saga_id = $4, taken_at = clock_timestamp(), expires_at = $5
    where service = $1 and kind = $2 and entity = $3
), mine as (
    delete from saga_lock_queue
    where service = $1 and kind = $2 and entity = $3 and saga_id = $4
    returning step, message_id
)
update saga_delivery d set due_at = clock_timestamp()
from mine
where d.service = $1 and d.saga_id = $4 and d.step = mine.step and d.message_id = mine.message_id
    and d.reason = 'locked'

-- name: other_places
select kind, entity from saga_lock_queue
where service = $1 and saga_id = $4 and step = $5 and message_id = $6 and (kind <> $2 or entity <> $3)
order by kind, entity

-- Whoever waits already keeps its place and its time; places elsewhere are given up.
-- name: wait_for_lock
with here as (
    insert into saga_lock_queue (service, kind, entity, saga_id, step, message_id, otherwise, since, expires_at)
    values ($1, $2, $3, $4, $5, $6, $7, clock_timestamp(), $8)
    on conflict (service, kind, entity, saga_id, step, message_id) do update set otherwise = excluded.otherwise
), gone as (
    delete from saga_lock_queue
    where service = $1 and saga_id = $4 and step = $5 and message_id = $6 and (kind <> $2 or entity <> $3)
    returning kind, entity
)
select kind, entity from gone

-- name: release_locks
with freed as (
    delete from saga_lock where service = $1 and saga_id = $2 returning kind, entity
), gone as (
    delete from saga_lock_queue where service = $1 and saga_id = $2 returning kind, entity
)
select kind, entity from freed union select kind, entity from gone

-- A statement of its own: whoever was about to wait has committed by now, and is seen.
-- name: wake_next
update saga_delivery d set due_at = clock_timestamp()
from unnest($2::text[], $3::text[]) as k (kind, entity)
cross join lateral (
    select q.saga_id, q.step, q.message_id
    from saga_lock_queue q
    join saga_delivery w on w.service = q.service and w.saga_id = q.saga_id and w.step = q.step
        and w.message_id = q.message_id and w.reason = 'locked'
    where q.service = $1 and q.kind = k.kind and q.entity = k.entity
    order by q.place
    limit 1
) q
where d.service = $1 and d.saga_id = q.saga_id and d.step = q.step and d.message_id = q.message_id
    and d.reason = 'locked'

-- name: prune_locks
with old as (
    select l.ctid as place
    from saga_lock l
    left join saga_gate g on g.saga_id = l.saga_id and g.service = l.service
    where l.expires_at < (select clock_timestamp()) - $2::float8 * interval '1 second'
        and (g.keep_until is null or g.keep_until < clock_timestamp() - $2::float8 * interval '1 second')
    order by l.expires_at
    limit $1
    for update of l skip locked
), gone as (
    delete from saga_lock l using old where l.ctid = old.place returning 1
)
select count(*) as rows from gone

-- A place whose delivery waits goes with it, not before.
-- name: prune_lock_queue
with old as (
    select q.ctid as place
    from saga_lock_queue q
    where q.expires_at < (select clock_timestamp()) - $2::float8 * interval '1 second'
        and not exists (
            select 1 from saga_delivery d
            where d.service = q.service and d.saga_id = q.saga_id and d.step = q.step
                and d.message_id = q.message_id and d.reason in ('retry', 'locked', 'held')
        )
    order by q.expires_at
    limit $1
    for update of q skip locked
), gone as (
    delete from saga_lock_queue q using old where q.ctid = old.place returning 1
)
select count(*) as rows from gone
