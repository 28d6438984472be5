-- What `saga doctor` asks a file.

-- name: checkup_overdue
select min(due_at) as due from saga_instance where due_at is not null

-- name: checkup_stuck
select saga_id from saga_instance where phase = 'stuck' order by saga_id limit 1

-- name: checkup_untold
select saga_id, service, error, attempt, count(*) over () as sagas
from saga_delivery
where reason = 'retry' and step = '' and attempt > 0 and raw_topic like 'saga.outcomes%'
order by attempt desc, saga_id
limit 1
