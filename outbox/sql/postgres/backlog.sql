-- What waits in the outbox, and who is at it.

-- name: backlog_parts
select service, count(*) as rows, extract(epoch from clock_timestamp() - min(created_at))::float8 as age
from saga_outbox group by service order by service

-- name: backlog_shards
select shard, count(*) as rows, extract(epoch from clock_timestamp() - min(created_at))::float8 as age
from saga_outbox where shard is not null group by shard order by shard

-- name: backlog_leases
select name, owner, extract(epoch from until - clock_timestamp())::float8 as seconds_left from saga_lease order by name

-- name: backlog_oldest
select seq, id, service, type, aggregatetype, aggregateid,
    extract(epoch from clock_timestamp() - created_at)::float8 as age
from saga_outbox order by seq limit 1
