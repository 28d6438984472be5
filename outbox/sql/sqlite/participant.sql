-- name: read_gate
select saga_id, service, plan, state, mark, mark_number, keep_until, expires_at, traceparent
from saga_gate where saga_id = ?1 and service = ?2

-- name: load_run
select * from saga_run where saga_id = ?1 and step = ?2 and branch = ?3

-- name: load_saga
select * from saga_run where saga_id = ?1 and service = ?2

-- name: read_inbox
select 1 from saga_inbox where day = ?1 and service = ?2 and message_id = ?3 and subscriber = ?4

-- name: insert_inbox
insert into saga_inbox (day, service, message_id, subscriber) values (?1, ?2, ?3, ?4)

-- name: prune_inbox
delete from saga_inbox where (day, service, message_id, subscriber) in (
    select day, service, message_id, subscriber from saga_inbox where day < ?2 limit ?1
)

-- name: insert_run
insert into saga_run
    (saga_id, step, branch, service, plan, tenant, status, undo, causes, input_type, input, result_type, result,
     attempt, owner, pending_at, error, outcome, traceparent, expires_at, created_at, done_at, undone_at,
     fan_out, generation, first_called_at, called_at, lane, revision)
values
    (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23,
     ?24, ?25, ?26, ?27, ?28, 1)

-- name: update_run
update saga_run set
    plan = ?5, tenant = ?6, status = ?7, undo = ?8, causes = ?9, input_type = ?10, input = ?11, result_type = ?12,
    result = ?13, attempt = ?14, owner = ?15, pending_at = ?16, error = ?17, outcome = ?18, traceparent = ?19,
    expires_at = ?20, created_at = ?21, done_at = ?22, undone_at = ?23, fan_out = ?24, generation = ?25,
    first_called_at = ?26, called_at = ?27, lane = ?28, revision = revision + 1
where saga_id = ?1 and step = ?2 and branch = ?3 and service = ?4 and revision = ?29

-- name: put_gate
insert into saga_gate (saga_id, service, plan, state, mark, mark_number, keep_until, expires_at, traceparent)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
on conflict (saga_id, service) do update set
    plan = excluded.plan, state = excluded.state, mark = excluded.mark, mark_number = excluded.mark_number,
    keep_until = excluded.keep_until,
    expires_at = excluded.expires_at, traceparent = excluded.traceparent

-- name: delete_delivery
delete from saga_delivery where id = ?1

-- name: update_delivery
update saga_delivery set due_at = ?2, reason = ?3, attempt = max(attempt, ?4), error = ?5, first_at = coalesce(first_at, ?6)
where id = ?1 and reason <> 'dead'

-- name: release_delivery
update saga_delivery set reason = 'retry', due_at = ?3
where service = ?1 and saga_id = ?2 and reason in ('retry', 'locked', 'held')

-- The two lanes are read apart, so that each comes in the order of its own index.
-- name: due_deliveries
select * from (
    select * from saga_delivery
    where service = ?1 and reason in ('retry', 'delayed', 'locked', 'parked') and due_at <= ?2 and raw_topic like '%.urgent'
    order by due_at, id
    limit ?3
)
union all
select * from (
    select * from saga_delivery
    where service = ?1 and reason in ('retry', 'delayed', 'locked', 'parked') and due_at <= ?2 and raw_topic not like '%.urgent'
    order by due_at, id
    limit ?3
)
limit ?3

-- name: lease_delivery
update saga_delivery set due_at = ?2 where id = ?1

-- name: due_runs
select * from (
    select * from saga_run where service = ?1 and pending_at <= ?2 and lane = 'urgent' order by pending_at limit ?3
)
union all
select * from (
    select * from saga_run where service = ?1 and pending_at <= ?2 and lane <> 'urgent' order by pending_at limit ?3
)
limit ?3

-- name: lease_run
update saga_run set
    owner = ?4, pending_at = ?5, called_at = ?6, first_called_at = coalesce(first_called_at, ?6),
    revision = revision + 1
where saga_id = ?1 and step = ?2 and branch = ?3

-- name: beat_run
update saga_run set pending_at = ?6
where saga_id = ?1 and step = ?2 and branch = ?3 and revision = ?4 and owner = ?5 and pending_at is not null

-- name: silent_runs
select saga_id, step, branch, owner from saga_run
where service = ?1 and pending_at < ?3 and owner not in ('', ?2)
order by pending_at limit 100

-- name: prune_runs
delete from saga_run where rowid in (
    select r.rowid
    from saga_run r
    left join saga_gate g on g.saga_id = r.saga_id and g.service = r.service
    where r.expires_at < ?2
        and (g.keep_until is null or g.keep_until < ?2)
        and r.pending_at is null
        and r.undo not in ('wanted', 'intent')
    order by r.expires_at
    limit ?1
)

-- A gate goes after its runs: it may say how long they are kept.
-- name: prune_gates
delete from saga_gate where rowid in (
    select g.rowid
    from saga_gate g
    where g.expires_at < ?2
        and (g.keep_until is null or g.keep_until < ?2)
        and not exists (select 1 from saga_run r where r.saga_id = g.saga_id and r.service = g.service)
    order by g.expires_at
    limit ?1
)
