-- name: now
select clock_timestamp()

-- name: load_instances
select i.* from unnest($1::text[]) as k (saga_id)
cross join lateral (select * from saga_instance i where i.saga_id = k.saga_id offset 0) i

-- One look into the index for each partition.
-- name: next_due
select min(i.due_at) as due_at from unnest($1::integer[]) as p (partition)
cross join lateral (
    select due_at from saga_instance i
    where i.partition = p.partition and i.due_at is not null
    order by i.due_at
    limit 1
) i

-- name: due_instances
select i.* from saga_cursor c
cross join lateral (
    select * from saga_instance i
    where i.partition = c.partition and i.due_at <= c.observed_until
    order by i.due_at
    limit $2
) i
where c.partition = any($1::integer[])
order by i.due_at, i.saga_id
limit $2

-- name: cursors
select partition, position, observed_until from saga_cursor where partition = any($1::integer[])

-- The parts of a write; each numbers its own parameters. A duplicate key raises, on purpose.
-- name: insert_instances
insert into saga_instance
    (saga_id, saga, version, plan, tenant, phase, partition, due_at, started_at, ended_at, state, step, error, revision)
select k.*, 1 from unnest(
    $1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::timestamptz[],
    $9::timestamptz[], $10::timestamptz[], $11::bytea[], $12::text[], $13::text[]
) as k

-- The limit is the number of rows; see delete_outbox.
-- name: update_instances
update saga_instance i set
    saga = k.saga, version = k.version, plan = k.plan, tenant = k.tenant, phase = k.phase,
    partition = k.partition, due_at = k.due_at, started_at = k.started_at, ended_at = k.ended_at,
    state = k.state, step = k.step, error = k.error, revision = i.revision + 1
from (
    select * from unnest(
        $1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::integer[],
        $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::bytea[], $12::text[], $13::text[], $14::integer[]
    ) as k (
        saga_id, saga, version, plan, tenant, phase, partition, due_at, started_at, ended_at, state, step, error, revision
    )
    limit $15
) k
where i.saga_id = k.saga_id and i.revision = k.revision
returning 'update_instances' as part, 0::bigint as seq

-- Instances of one plan in which nothing is wrong; see insert_instances.
-- name: insert_alike_instances
insert into saga_instance
    (saga_id, saga, version, plan, tenant, phase, partition, due_at, started_at, ended_at, state, step, error, revision)
select k.saga_id, $8::text, $9::integer, $10::text, $11::text, k.phase, k.partition, k.due_at, k.started_at, k.ended_at,
    k.state, '', '', 1
from unnest(
    $1::text[], $2::text[], $3::integer[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[], $7::bytea[]
) as k (saga_id, phase, partition, due_at, started_at, ended_at, state)

-- name: update_alike_instances
update saga_instance i set
    saga = $8::text, version = $9::integer, plan = $10::text, tenant = $11::text, phase = k.phase,
    partition = k.partition, due_at = k.due_at, started_at = k.started_at, ended_at = k.ended_at,
    state = k.state, step = '', error = '', revision = i.revision + 1
from (
    select * from unnest(
        $1::text[], $2::text[], $3::integer[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[], $7::bytea[],
        $12::integer[]
    ) as k (saga_id, phase, partition, due_at, started_at, ended_at, state, revision)
    limit $13
) k
where i.saga_id = k.saga_id and i.revision = k.revision
returning 'update_alike_instances' as part, 0::bigint as seq

-- name: insert_cursors
insert into saga_cursor (partition, position, observed_until)
select * from unnest($1::integer[], $2::bigint[], $3::timestamptz[])

-- name: update_cursors
update saga_cursor c set position = k.position, observed_until = k.observed_until
from unnest($1::integer[], $2::bigint[], $3::timestamptz[], $4::bigint[])
    as k (partition, position, observed_until, was)
where c.partition = k.partition and c.position = k.was
returning 'update_cursors' as part, 0::bigint as seq

-- What the hash does not cover may change within a revision.
-- name: put_plan
insert into saga_plan (saga, version, revision, hash, body) values ($1, $2, $3, $4, $5)
on conflict (saga, version, revision) do update set body = excluded.body
where saga_plan.hash = excluded.hash and saga_plan.body <> excluded.body

-- name: plans
select saga, version, revision, hash, body from saga_plan order by saga, version, revision
