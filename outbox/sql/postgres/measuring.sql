-- What is measured every few seconds while somebody keeps metrics; each part has an index that leaves out the rest.

-- name: measure_shared
select 'outbox' as what, service as name, '' as kind, count(*) as rows,
    coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0)::float8 as age
from saga_outbox group by service
union all
select 'dead', service, '', count(*), coalesce(extract(epoch from clock_timestamp() - min(due_at)), 0)::float8
from saga_delivery where reason = 'dead' group by service
union all
select 'waiting', service, reason, count(*), 0
from saga_delivery where reason in ('retry', 'delayed', 'locked', 'parked') group by service, reason
union all
select 'waiting', service, reason, count(*), 0
from saga_delivery where reason in ('retry', 'locked', 'held') and reason = 'held'
group by service, reason

-- name: measure_participant
select 'calls' as what, service as name, '' as kind, count(*) as rows, 0::float8 as age
from saga_run where pending_at is not null group by service

-- name: measure_coordinator
select 'active' as what, saga as name, phase as kind, count(*) as rows, 0::float8 as age
from saga_instance where phase not in ('completed', 'compensated') group by saga, phase
