-- The holder, if anybody holds the entity.
-- name: see_lock
select l.saga_id, l.expires_at, g.keep_until
from saga_lock l
left join saga_gate g on g.saga_id = l.saga_id and g.service = l.service
where l.service = ?1 and l.kind = ?2 and l.entity = ?3

-- name: see_place
select since from saga_lock_queue
where service = ?1 and kind = ?2 and entity = ?3 and saga_id = ?4 and step = ?5 and message_id = ?6

-- name: see_ahead
select q.saga_id
from saga_lock_queue q
join saga_delivery d on d.service = q.service and d.saga_id = q.saga_id and d.step = q.step
    and d.message_id = q.message_id and d.reason in ('retry', 'locked')
where q.service = ?1 and q.kind = ?2 and q.entity = ?3
    and q.otherwise = 'queue' and q.saga_id <> ?4
    and q.place < coalesce((
        select mine.place from saga_lock_queue mine
        where mine.service = ?1 and mine.kind = ?2 and mine.entity = ?3
            and mine.saga_id = ?4 and mine.step = ?5 and mine.message_id = ?6
    ), 9223372036854775807)
order by q.place
limit 1

-- name: take_lock
insert into saga_lock (service, kind, entity, saga_id, taken_at, expires_at)
values (?1, ?2, ?3, ?4, ?6, ?5)
on conflict (service, kind, entity) do update set
    saga_id = excluded.saga_id, taken_at = excluded.taken_at, expires_at = excluded.expires_at

-- What else of the saga waits for the entity goes on too.
-- name: wake_mine
update saga_delivery set due_at = ?5
where service = ?1 and saga_id = ?4 and reason = 'locked' and exists (
    select 1 from saga_lock_queue q
    where q.service = ?1 and q.kind = ?2 and q.entity = ?3 and q.saga_id = ?4
        and q.step = saga_delivery.step and q.message_id = saga_delivery.message_id
)

-- name: leave_queue
delete from saga_lock_queue where service = ?1 and kind = ?2 and entity = ?3 and saga_id = ?4

-- Whoever waits already keeps its place and its time.
-- name: wait_for_lock
insert into saga_lock_queue (service, kind, entity, saga_id, step, message_id, otherwise, since, expires_at)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?9, ?8)
on conflict (service, kind, entity, saga_id, step, message_id) do update set otherwise = excluded.otherwise

-- name: other_places
select kind, entity from saga_lock_queue
where service = ?1 and saga_id = ?4 and step = ?5 and message_id = ?6 and (kind <> ?2 or entity <> ?3)

-- name: leave_place
delete from saga_lock_queue
where service = ?1 and kind = ?2 and entity = ?3 and saga_id = ?4 and step = ?5 and message_id = ?6

-- name: held_locks
select kind, entity from saga_lock where service = ?1 and saga_id = ?2
union
select kind, entity from saga_lock_queue where service = ?1 and saga_id = ?2

-- name: free_locks
delete from saga_lock where service = ?1 and saga_id = ?2

-- name: leave_queues
delete from saga_lock_queue where service = ?1 and saga_id = ?2

-- name: wake_next
update saga_delivery set due_at = ?4
where id = (
    select w.id
    from saga_lock_queue q
    join saga_delivery w on w.service = q.service and w.saga_id = q.saga_id and w.step = q.step
        and w.message_id = q.message_id and w.reason = 'locked'
    where q.service = ?1 and q.kind = ?2 and q.entity = ?3
    order by q.place
    limit 1
)

-- name: prune_locks
delete from saga_lock where rowid in (
    select l.rowid
    from saga_lock l
    left join saga_gate g on g.saga_id = l.saga_id and g.service = l.service
    where l.expires_at < ?2
        and (g.keep_until is null or g.keep_until < ?2)
    order by l.expires_at
    limit ?1
)

-- A place whose delivery waits goes with it, not before.
-- name: prune_lock_queue
delete from saga_lock_queue where place in (
    select q.place
    from saga_lock_queue q
    where q.expires_at < ?2
        and not exists (
            select 1 from saga_delivery d
            where d.service = q.service and d.saga_id = q.saga_id and d.step = q.step
                and d.message_id = q.message_id and d.reason in ('retry', 'locked', 'held')
        )
    order by q.expires_at
    limit ?1
)
