-- name: insert_outbox
insert into saga_outbox
    (id, aggregatetype, aggregateid, type, payload, headers, record, record_headers, service, shard, created_at)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)

-- name: insert_delivery
insert into saga_delivery
    (service, saga_id, due_at, reason, attempt, error, step, message_id,
     raw_topic, raw_partition, raw_offset, raw_key, raw_value, raw_headers, first_at, created_at)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
on conflict (service, saga_id, step, message_id) where reason in ('retry', 'delayed', 'locked', 'held') and message_id <> ''
do update set
    due_at = excluded.due_at, reason = excluded.reason, attempt = max(saga_delivery.attempt, excluded.attempt),
    error = excluded.error, first_at = coalesce(saga_delivery.first_at, excluded.first_at)

-- name: delete_outbox
delete from saga_outbox where seq in (select value from json_each(?1))

-- name: sweep_page
select seq, id, aggregatetype, aggregateid, type, payload, headers, record, record_headers, service, shard
from saga_outbox
where shard is null and created_at < ?1 and seq not in (select value from json_each(?2))
order by seq
limit ?3

-- name: sweep_lease
insert into saga_lease (name, owner, until) values ('sweep', ?1, ?2)
on conflict (name) do update set owner = excluded.owner, until = excluded.until
where saga_lease.owner = excluded.owner or saga_lease.until < ?3

-- name: pending_outbox
select count(*) as rows, min(created_at) as oldest from saga_outbox

-- name: committed_outbox
select seq, id, aggregatetype, aggregateid, type, payload, headers, record, record_headers, service, shard
from saga_outbox
where seq in (select value from json_each(?1))
order by seq

-- name: outbox_found
select 1 from sqlite_master where type = 'table' and name = 'saga_outbox'

-- name: forget_relays
delete from saga_lease where name like 'relay %' and until < ?1

-- name: attend
insert into saga_lease (name, owner, until) values ('relay ' || ?1, ?1, ?2)
on conflict (name) do update set until = excluded.until

-- name: attending
select name, owner from saga_lease where (name like 'relay %' or name like 'shard %') and until > ?1

-- name: hold_shard
insert into saga_lease (name, owner, until) values ('shard ' || ?1, ?2, ?3)
on conflict (name) do update set owner = excluded.owner, until = excluded.until
where saga_lease.owner = excluded.owner or saga_lease.until < ?4

-- name: give_up
delete from saga_lease where owner = ?1 and name in (select value from json_each(?2))

-- name: shard_page
select seq, id, aggregatetype, aggregateid, type, payload, headers, record, record_headers, service, shard
from saga_outbox
where shard in (select value from json_each(?1)) and aggregateid not in (select value from json_each(?2))
order by seq
limit ?3

-- name: has_sharded
select exists (select 1 from saga_outbox where shard is not null) as some
