-- Part of a write. Rows get their seq in the order of the arrays.
-- name: insert_outbox
insert into saga_outbox (id, aggregatetype, aggregateid, type, payload, headers, record, record_headers, service, shard)
select * from unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::bytea[], $8::text[], $9::text[],
    $10::smallint[]
)
returning 'insert_outbox' as part, seq

-- Part of a write: rows of one topic and type; see insert_outbox.
-- name: insert_alike_outbox
insert into saga_outbox (id, aggregatetype, aggregateid, type, payload, headers, record, record_headers, service)
select k.id, $7::text, k.aggregateid, $8::text, k.payload, k.headers, k.record, k.record_headers, $9::text
from unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::bytea[], $6::text[])
    as k (id, aggregateid, payload, headers, record, record_headers)
returning 'insert_outbox' as part, seq

-- Part of a write. The row of a key may not be deleted or updated by another part: all see the same snapshot.
-- name: insert_deliveries
insert into saga_delivery as d
    (service, saga_id, due_at, reason, attempt, error, step, message_id,
     raw_topic, raw_partition, raw_offset, raw_key, raw_value, raw_headers, first_at)
select * from unnest(
    $1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::integer[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::integer[], $11::bigint[], $12::bytea[], $13::bytea[], $14::text[],
    $15::timestamptz[]
)
on conflict (service, saga_id, step, message_id) where reason in ('retry', 'delayed', 'locked', 'held') and message_id <> ''
do update set
    due_at = excluded.due_at, reason = excluded.reason, attempt = greatest(d.attempt, excluded.attempt),
    error = excluded.error, first_at = coalesce(d.first_at, excluded.first_at)

-- The limit is the number of rows. It makes the planner expect few, so that it takes the primary key even
-- while the table is empty: the plan is kept, and the table grows.
-- name: delete_outbox
delete from saga_outbox o
using (select * from unnest($1::bigint[]) as k (seq) limit $2) k
where o.seq = k.seq

-- One statement: the lease is only written when there is something to sweep, so an idle sweep writes nothing.
-- A hashed subplan, not an anti join: the rows have to come in the order of the primary key, a page at a time.
-- name: sweep
with page as materialized (
    select seq, id, aggregatetype, aggregateid, type, payload, headers, record, record_headers, service, shard
    from saga_outbox
    where shard is null
        and created_at < (select clock_timestamp()) - $1::float8 * interval '1 second'
        and seq not in (select unnest($2::bigint[]))
    order by seq
    limit $3
), lease as (
    insert into saga_lease as l (name, owner, until)
    select 'sweep', $4, clock_timestamp() + $5::float8 * interval '1 second'
    where exists (select 1 from page)
    on conflict (name) do update set owner = excluded.owner, until = excluded.until
    where l.owner = excluded.owner or l.until < clock_timestamp()
    returning 1
)
select * from page where exists (select 1 from lease) order by seq

-- name: pending_outbox
select count(*) as rows, coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0)::float8 as age
from saga_outbox

-- name: committed_outbox
select seq, id, aggregatetype, aggregateid, type, payload, headers, record, record_headers, service, shard
from saga_outbox
where seq = any($1::bigint[])
order by seq

-- Where the outbox lies that a connection sees: equal numbers are one table of one server.
-- name: place_of_outbox
select to_regclass('saga_outbox')::oid::bigint as outbox,
    (select oid::bigint from pg_database where datname = current_database()) as database,
    current_database()::text as name, pg_postmaster_start_time() as server

-- The relays at work, and whose every shard is. Who has not been heard of for long is forgotten.
-- name: attend
with gone as (
    delete from saga_lease where name in (
        select name from saga_lease
        where name like 'relay %' and until < clock_timestamp() - interval '1 minute' and owner <> $1
        order by name
        for update skip locked
    )
), me as (
    insert into saga_lease as l (name, owner, until)
    values ('relay ' || $1::text, $1::text, clock_timestamp() + $2::float8 * interval '1 second')
    on conflict (name) do update set until = excluded.until
)
select name, owner from saga_lease
where (name like 'relay %' or name like 'shard %') and until > clock_timestamp()

-- name: hold_shards
insert into saga_lease as l (name, owner, until)
select 'shard ' || k.shard, $1::text, clock_timestamp() + $3::float8 * interval '1 second'
from unnest($2::integer[]) as k (shard)
order by k.shard
on conflict (name) do update set owner = excluded.owner, until = excluded.until
where l.owner = excluded.owner or l.until < clock_timestamp()
returning name

-- name: give_up
delete from saga_lease where owner = $1 and name = any($2::text[])

-- A look at each shard by itself takes its first rows from the index, however many there are.
-- name: shard_page
select o.* from unnest($1::smallint[]) as k (shard)
cross join lateral (
    select seq, id, aggregatetype, aggregateid, type, payload, headers, record, record_headers, service, shard
    from saga_outbox
    where shard = k.shard and aggregateid not in (select unnest($2::text[]))
    order by seq
    limit $3
) o
order by o.seq
limit $4

-- name: has_sharded
select exists (select from saga_outbox where shard is not null) as some
