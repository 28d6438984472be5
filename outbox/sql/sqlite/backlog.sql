-- What waits in the outbox, and who is at it; ages and times left are in microseconds, ?1 is now.

-- name: backlog_parts
select service, count(*) as rows, ?1 - min(created_at) as age from saga_outbox group by service order by service

-- name: backlog_shards
select shard, count(*) as rows, ?1 - min(created_at) as age
from saga_outbox where shard is not null group by shard order by shard

-- name: backlog_leases
select name, owner, until - ?1 as seconds_left from saga_lease order by name

-- name: backlog_oldest
select seq, id, service, type, aggregatetype, aggregateid, ?1 - created_at as age from saga_outbox order by seq limit 1
