-- Collation "C" compares bytes: quick, and the order in which Python sorts the keys. The room that fillfactor leaves is
-- for the outcome and the undo, which change no indexed column. A week of rows is a large table: a fifth of it
-- (autovacuum's default) would be more than a day's, so it is vacuumed at a twentieth, of inserts too, which freezes
-- rows bit by bit instead of all at once.
create table if not exists saga_run (
    saga_id text collate "C" not null,
    step text collate "C" not null,
    branch text collate "C" not null,
    service text collate "C" not null,
    plan text not null,
    tenant text not null,
    status text not null,
    undo text not null,
    causes text not null,
    input_type text not null,
    input bytea,
    result_type text not null,
    result bytea,
    attempt integer not null,
    owner text not null,
    pending_at timestamptz,
    error text not null,
    outcome bytea,
    traceparent text not null,
    expires_at timestamptz not null,
    created_at timestamptz not null,
    done_at timestamptz,
    undone_at timestamptz,
    fan_out integer,
    generation integer not null,
    first_called_at timestamptz,
    called_at timestamptz,
    lane text not null,
    revision integer not null,
    primary key (saga_id, step, branch)
) with (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);

create index if not exists saga_run_pending on saga_run (service, pending_at) where pending_at is not null;

create index if not exists saga_run_urgent on saga_run (service, pending_at)
    where pending_at is not null and lane = 'urgent';

create index if not exists saga_run_expires on saga_run (expires_at);

create table if not exists saga_gate (
    saga_id text collate "C" not null,
    service text collate "C" not null,
    plan text not null,
    state text not null,
    mark text not null,
    mark_number integer not null,
    keep_until timestamptz,
    expires_at timestamptz not null,
    traceparent text not null,
    primary key (saga_id, service)
) with (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05);

create index if not exists saga_gate_expires on saga_gate (expires_at);

-- Who holds an entity of the service; "" is nobody: then the row is only there to be locked.
create table if not exists saga_lock (
    service text collate "C" not null,
    kind text collate "C" not null,
    entity text collate "C" not null,
    saga_id text collate "C" not null,
    taken_at timestamptz not null,
    expires_at timestamptz not null,
    primary key (service, kind, entity)
) with (fillfactor = 90);

create index if not exists saga_lock_saga on saga_lock (service, saga_id);

create index if not exists saga_lock_expires on saga_lock (expires_at);

-- A place counts as long as its delivery waits.
create table if not exists saga_lock_queue (
    service text collate "C" not null,
    kind text collate "C" not null,
    entity text collate "C" not null,
    saga_id text collate "C" not null,
    step text collate "C" not null,
    message_id text not null,
    place bigint generated always as identity,
    otherwise text not null,
    since timestamptz not null,
    expires_at timestamptz not null,
    primary key (service, kind, entity, saga_id, step, message_id)
);

create index if not exists saga_lock_queue_place on saga_lock_queue (service, kind, entity, place);

create index if not exists saga_lock_queue_saga on saga_lock_queue (service, saga_id);

create index if not exists saga_lock_queue_expires on saga_lock_queue (expires_at);

-- A partition for each day is made ahead and dropped when nobody can deliver that day's events any more. What finds
-- none goes into the last one.
create table if not exists saga_inbox (
    service text collate "C" not null,
    day date not null,
    message_id text collate "C" not null,
    subscriber text collate "C" not null,
    primary key (service, day, message_id, subscriber)
) partition by range (day);

create table if not exists saga_inbox_rest partition of saga_inbox default;
