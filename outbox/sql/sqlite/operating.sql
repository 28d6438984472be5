-- What people ask for. An empty text, number or array stands for "any".

-- name: tables
select max(name = 'saga_audit') as shared, max(name = 'saga_run') as participant,
    max(name = 'saga_instance') as coordinator
from sqlite_master where type = 'table'

-- name: list_dead
select * from saga_delivery
where reason = 'dead' and id > ?1
    and (?2 = '' or service = ?2) and (?3 = '' or saga_id = ?3) and (?4 = '' or step = ?4)
    and (?5 = '' or instr(error, ?5) > 0)
    and (?6 = '[]' or id in (select value from json_each(?6))) and (?7 = 0 or id <= ?7)
order by id
limit ?8

-- name: last_dead
select coalesce(max(id), 0) as id from saga_delivery where reason = 'dead'

-- name: show_dead
select * from saga_delivery where id = ?1 and reason = 'dead'

-- name: group_dead
select service, step, substr(error, 1, ?1) as error, count(*) as letters, (?3 - min(due_at)) / 1e6 as oldest
from saga_delivery
where reason = 'dead'
group by service, step, substr(error, 1, ?1)
order by letters desc, service, step, error
limit ?2

-- name: lock_dead
select * from saga_delivery
where id in (select value from json_each(?1)) and reason = 'dead'
order by id

-- name: waiting_key
select 1 as one from saga_delivery
where service = ?1 and saga_id = ?2 and step = ?3 and message_id = ?4
    and reason in ('retry', 'delayed', 'locked', 'held') and message_id <> ''

-- name: retry_letters
update saga_delivery set reason = 'retry', attempt = 0, first_at = null, due_at = ?2
where id in (select value from json_each(?1))

-- name: delete_letters
delete from saga_delivery where id in (select value from json_each(?1))

-- name: insert_audit
insert into saga_audit (at, who, why, verb, saga_id, target, before, after)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)

-- name: audits
select * from saga_audit order by id desc limit ?1

-- name: audits_of
select * from saga_audit where saga_id = ?1 order by id desc limit ?2

-- A saga whose start nobody knows comes first: it needs somebody to look at it.
-- name: find_instances
select * from saga_instance
where (?1 = '' or saga = ?1) and (?2 = 0 or version = ?2)
    and (?3 = '[]' or phase in (select value from json_each(?3))) and (?4 = '' or tenant = ?4)
    and (?5 is null or started_at >= ?5) and (?6 is null or started_at < ?6)
    and (
        ?8 is null
        or (coalesce(started_at, 9223372036854775807), saga_id) < (coalesce(?7, 9223372036854775807), ?8)
    )
order by coalesce(started_at, 9223372036854775807) desc, saga_id desc
limit ?9

-- name: count_instances
select saga, version, phase, count(*) as sagas from saga_instance
group by saga, version, phase order by saga, version, phase

-- name: footprint_runs
select * from saga_run where saga_id = ?1 order by created_at, step, branch limit ?2

-- name: footprint_gates
select * from saga_gate where saga_id = ?1 order by service limit ?2

-- name: footprint_deliveries
select * from saga_delivery where saga_id = ?1 order by id limit ?2

-- Ends whose handler fails: outcomes that wait for another attempt.
-- name: untold_ends
select saga_id, service, attempt, error from saga_delivery
where reason = 'retry' and step = '' and attempt > 0 and raw_topic like 'saga.outcomes%'
    and (?1 = '[]' or saga_id in (select value from json_each(?1)))
order by attempt desc, saga_id, service
limit ?2
