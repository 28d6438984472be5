-- The parts of a read. All have the columns of saga_run; a gate borrows some of them. Every lookup is a lateral
-- with `offset 0`: planned for one row, so that it takes the primary key even while the table is empty.
-- name: read_clock
select 'clock' as kind, null::text as saga_id, null::text as step, null::text as branch, null::text as plan,
    null::text as tenant, null::text as status, null::text as undo, null::text as causes,
    null::text as input_type, null::bytea as input, null::text as result_type, null::bytea as result,
    null::integer as attempt, null::text as owner, null::timestamptz as pending_at, null::text as error,
    null::bytea as outcome, null::text as traceparent, null::timestamptz as expires_at,
    clock_timestamp() as created_at, null::timestamptz as done_at, null::timestamptz as undone_at,
    null::integer as fan_out, null::integer as generation, null::timestamptz as first_called_at,
    null::timestamptz as called_at, null::text as lane, null::integer as revision

-- name: read_gates
select 'gate', g.saga_id, null, null, g.plan, g.service, g.state, g.mark, null, null, null, null, null, null, null,
    g.keep_until, null, null, g.traceparent, g.expires_at, null, null, null, g.mark_number, null, null, null, null, null
from unnest($2::text[]) as k (saga_id)
cross join lateral (select * from saga_gate g where g.saga_id = k.saga_id and g.service = $1 offset 0) g

-- name: read_runs
select 'run', r.saga_id, r.step, r.branch, r.plan, r.tenant, r.status, r.undo, r.causes, r.input_type, r.input,
    r.result_type, r.result, r.attempt, r.owner, r.pending_at, r.error, r.outcome, r.traceparent, r.expires_at,
    r.created_at, r.done_at, r.undone_at, r.fan_out, r.generation, r.first_called_at, r.called_at, r.lane, r.revision
from unnest($1::text[], $2::text[], $3::text[]) as k (saga_id, step, branch)
cross join lateral (
    select * from saga_run r where r.saga_id = k.saga_id and r.step = k.step and r.branch = k.branch offset 0
) r

-- name: read_sagas
select 'run', r.saga_id, r.step, r.branch, r.plan, r.tenant, r.status, r.undo, r.causes, r.input_type, r.input,
    r.result_type, r.result, r.attempt, r.owner, r.pending_at, r.error, r.outcome, r.traceparent, r.expires_at,
    r.created_at, r.done_at, r.undone_at, r.fan_out, r.generation, r.first_called_at, r.called_at, r.lane, r.revision
from unnest($2::text[]) as k (saga_id)
cross join lateral (select * from saga_run r where r.saga_id = k.saga_id and r.service = $1 offset 0) r

-- name: read_inbox
select 'inbox', i.message_id, i.subscriber, i.day::text, null, null, null, null, null, null, null, null, null, null, null,
    null, null, null, null, null, null, null, null, null, null, null, null, null, null
from unnest($2::date[], $3::text[], $4::text[]) as k (day, message_id, subscriber)
cross join lateral (
    select * from saga_inbox i
    where i.service = $1 and i.day = k.day and i.message_id = k.message_id and i.subscriber = k.subscriber
    offset 0
) i

-- name: load_runs
select r.* from unnest($1::text[], $2::text[], $3::text[]) as k (saga_id, step, branch)
cross join lateral (
    select * from saga_run r where r.saga_id = k.saga_id and r.step = k.step and r.branch = k.branch offset 0
) r

-- The parts of a write; each numbers its own parameters. A duplicate key raises, on purpose.
-- name: insert_runs
insert into saga_run
    (saga_id, step, branch, service, plan, tenant, status, undo, causes, input_type, input, result_type, result,
     attempt, owner, pending_at, error, outcome, traceparent, expires_at, created_at, done_at, undone_at,
     fan_out, generation, first_called_at, called_at, lane, revision)
select k.*, 1 from unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::bytea[], $12::text[], $13::bytea[], $14::integer[], $15::text[], $16::timestamptz[],
    $17::text[], $18::bytea[], $19::text[], $20::timestamptz[], $21::timestamptz[], $22::timestamptz[],
    $23::timestamptz[], $24::integer[], $25::integer[], $26::timestamptz[], $27::timestamptz[],
    $28::text[]
) as k

-- Runs of one step that have simply been done; see insert_runs.
-- name: insert_done_runs
insert into saga_run
    (saga_id, step, branch, service, plan, tenant, status, undo, causes, input_type, input, result_type, result,
     attempt, owner, error, traceparent, expires_at, created_at, done_at, generation, lane, revision)
select k.saga_id, $8::text, k.branch, $9::text, $10::text, $11::text, 'done', 'none', k.causes, $12::text, k.input,
    $13::text, k.result, $14::integer, '', '', k.traceparent, k.expires_at, $15::timestamptz, $16::timestamptz,
    0, $17::text, 1
from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bytea[], $6::text[], $7::timestamptz[])
    as k (saga_id, branch, causes, input, result, traceparent, expires_at)

-- name: insert_inbox
insert into saga_inbox (service, day, message_id, subscriber)
select * from unnest($1::text[], $2::date[], $3::text[], $4::text[])

-- The limit is the number of rows; see delete_outbox.
-- name: update_runs
update saga_run r set
    plan = k.plan, tenant = k.tenant, status = k.status, undo = k.undo, causes = k.causes,
    input_type = k.input_type, input = k.input, result_type = k.result_type, result = k.result,
    attempt = k.attempt, owner = k.owner, pending_at = k.pending_at, error = k.error, outcome = k.outcome,
    traceparent = k.traceparent, expires_at = k.expires_at, created_at = k.created_at, done_at = k.done_at,
    undone_at = k.undone_at, fan_out = k.fan_out, generation = k.generation, first_called_at = k.first_called_at,
    called_at = k.called_at, lane = k.lane, revision = r.revision + 1
from (
    select * from unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
        $10::text[], $11::bytea[], $12::text[], $13::bytea[], $14::integer[], $15::text[], $16::timestamptz[],
        $17::text[], $18::bytea[], $19::text[], $20::timestamptz[], $21::timestamptz[], $22::timestamptz[],
        $23::timestamptz[], $24::integer[], $25::integer[], $26::timestamptz[], $27::timestamptz[],
        $28::text[], $29::integer[]
    ) as k (
        saga_id, step, branch, service, plan, tenant, status, undo, causes, input_type, input, result_type, result,
        attempt, owner, pending_at, error, outcome, traceparent, expires_at, created_at, done_at, undone_at,
        fan_out, generation, first_called_at, called_at, lane, revision
    )
    limit $30
) k
where r.saga_id = k.saga_id and r.step = k.step and r.branch = k.branch and r.revision = k.revision
returning 'update_runs' as part, 0::bigint as seq

-- Nothing but an outcome has come; see update_runs.
-- name: update_outcomes
update saga_run r set outcome = k.outcome, revision = r.revision + 1
from (
    select * from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::integer[])
        as k (saga_id, step, branch, outcome, revision)
    limit $6
) k
where r.saga_id = k.saga_id and r.step = k.step and r.branch = k.branch and r.revision = k.revision
returning 'update_runs' as part, 0::bigint as seq

-- name: put_gates
insert into saga_gate (saga_id, service, plan, state, mark, mark_number, keep_until, expires_at, traceparent)
select * from unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::timestamptz[], $8::timestamptz[],
    $9::text[]
)
on conflict (saga_id, service) do update set
    plan = excluded.plan, state = excluded.state, mark = excluded.mark, mark_number = excluded.mark_number,
    keep_until = excluded.keep_until,
    expires_at = excluded.expires_at, traceparent = excluded.traceparent

-- The limit is the number of rows; see delete_outbox.
-- name: delete_deliveries
delete from saga_delivery d
using (select * from unnest($1::bigint[]) as k (id) limit $2) k
where d.id = k.id
returning 'delete_deliveries' as part, 0::bigint as seq

-- name: update_deliveries
update saga_delivery d set
    due_at = k.due_at, reason = k.reason, attempt = greatest(d.attempt, k.attempt), error = k.error,
    first_at = coalesce(d.first_at, k.first_at)
from (
    select * from unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::integer[], $5::text[], $6::timestamptz[])
        as k (id, due_at, reason, attempt, error, first_at)
    limit $7
) k
where d.id = k.id and d.reason <> 'dead'
returning 'update_deliveries' as part, 0::bigint as seq

-- name: release_deliveries
update saga_delivery set reason = 'retry', due_at = clock_timestamp()
where service = $1 and saga_id = any($2::text[]) and reason in ('retry', 'locked', 'held')

-- A function that is volatile is no index condition, its result in a subquery is one.
-- The two lanes are read apart, so that each comes in the order of its own index.
-- name: take_deliveries
with urgent as (
    select 0 as lane, id, due_at from saga_delivery
    where service = $1 and reason in ('retry', 'delayed', 'locked', 'parked') and due_at <= (select clock_timestamp())
        and raw_topic like '%.urgent'
    order by due_at, id
    limit $2
    for update skip locked
), others as (
    select 1 as lane, id, due_at from saga_delivery
    where service = $1 and reason in ('retry', 'delayed', 'locked', 'parked') and due_at <= (select clock_timestamp())
        and raw_topic not like '%.urgent'
    order by due_at, id
    limit $2
    for update skip locked
), due as (
    select * from urgent union all select * from others order by lane, due_at, id limit $2
)
update saga_delivery d set due_at = clock_timestamp() + $3::float8 * interval '1 second'
from due
where d.id = due.id
returning d.*, due.lane as was_lane, due.due_at as was_due_at

-- name: take_runs
with urgent as (
    select 0 as rank, saga_id, step, branch, pending_at, called_at, owner from saga_run
    where service = $1 and pending_at <= (select clock_timestamp()) and lane = 'urgent'
    order by pending_at
    limit $2
    for update skip locked
), others as (
    select 1 as rank, saga_id, step, branch, pending_at, called_at, owner from saga_run
    where service = $1 and pending_at <= (select clock_timestamp()) and lane <> 'urgent'
    order by pending_at
    limit $2
    for update skip locked
), due as (
    select * from urgent union all select * from others order by rank, pending_at limit $2
), clock as (
    select clock_timestamp() as now
)
update saga_run r set
    owner = $3, pending_at = clock.now + $4::float8 * interval '1 second', called_at = clock.now,
    first_called_at = coalesce(r.first_called_at, clock.now), revision = r.revision + 1
from due, clock
where r.saga_id = due.saga_id and r.step = due.step and r.branch = due.branch
returning r.*, due.rank as was_rank, due.pending_at as was_pending_at, due.called_at as was_called_at, due.owner as was_owner

-- name: beat
with mine as (
    select * from unnest($2::text[], $3::text[], $4::text[], $5::integer[]) as k (saga_id, step, branch, revision)
), kept as (
    update saga_run r set pending_at = clock_timestamp() + $7::float8 * interval '1 second'
    from mine k
    where r.saga_id = k.saga_id and r.step = k.step and r.branch = k.branch and r.revision = k.revision
        and r.owner = $6 and r.pending_at is not null
    returning r.saga_id, r.step, r.branch, r.owner
), silent as (
    select saga_id, step, branch, owner from saga_run
    where service = $1 and pending_at < (select clock_timestamp()) + $7::float8 / 3 * interval '1 second'
        and owner not in ('', $6)
    order by pending_at
    limit 100
)
select * from kept union all select * from silent

-- name: prune_runs
with old as (
    select r.ctid as place
    from saga_run r
    left join saga_gate g on g.saga_id = r.saga_id and g.service = r.service
    where r.expires_at < (select clock_timestamp()) - $2::float8 * interval '1 second'
        and (g.keep_until is null or g.keep_until < clock_timestamp() - $2::float8 * interval '1 second')
        and r.pending_at is null
        and r.undo not in ('wanted', 'intent')
    order by r.expires_at
    limit $1
    for update of r skip locked
), gone as (
    delete from saga_run r using old where r.ctid = old.place returning 1
)
select count(*) as rows from gone

-- A gate goes after its runs: it may say how long they are kept.
-- name: prune_gates
with old as (
    select g.ctid as place
    from saga_gate g
    where g.expires_at < (select clock_timestamp()) - $2::float8 * interval '1 second'
        and (g.keep_until is null or g.keep_until < clock_timestamp() - $2::float8 * interval '1 second')
        and not exists (select 1 from saga_run r where r.saga_id = g.saga_id and r.service = g.service)
    order by g.expires_at
    limit $1
    for update of g skip locked
), gone as (
    delete from saga_gate g using old where g.ctid = old.place returning 1
)
select count(*) as rows from gone
