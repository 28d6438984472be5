create table if not exists saga_run (
    saga_id text not null,
    step text not null,
    branch text not null,
    service text not null,
    plan text not null,
    tenant text not null,
    status text not null,
    undo text not null,
    causes text not null,
    input_type text not null,
    input blob,
    result_type text not null,
    result blob,
    attempt integer not null,
    owner text not null,
    pending_at integer,
    error text not null,
    outcome blob,
    traceparent text not null,
    expires_at integer not null,
    created_at integer not null,
    done_at integer,
    undone_at integer,
    fan_out integer,
    generation integer not null,
    first_called_at integer,
    called_at integer,
    lane text not null,
    revision integer not null,
    primary key (saga_id, step, branch)
);

create index if not exists saga_run_pending on saga_run (service, pending_at) where pending_at is not null;

create index if not exists saga_run_urgent on saga_run (service, pending_at)
    where pending_at is not null and lane = 'urgent';

create index if not exists saga_run_expires on saga_run (expires_at);

create table if not exists saga_gate (
    saga_id text not null,
    service text not null,
    plan text not null,
    state text not null,
    mark text not null,
    mark_number integer not null,
    keep_until integer,
    expires_at integer not null,
    traceparent text not null,
    primary key (saga_id, service)
);

create index if not exists saga_gate_expires on saga_gate (expires_at);

create table if not exists saga_lock (
    service text not null,
    kind text not null,
    entity text not null,
    saga_id text not null,
    taken_at integer not null,
    expires_at integer not null,
    primary key (service, kind, entity)
);

create index if not exists saga_lock_saga on saga_lock (service, saga_id);

create index if not exists saga_lock_expires on saga_lock (expires_at);

-- A place counts as long as its delivery waits.
create table if not exists saga_lock_queue (
    place integer primary key autoincrement,
    service text not null,
    kind text not null,
    entity text not null,
    saga_id text not null,
    step text not null,
    message_id text not null,
    otherwise text not null,
    since integer not null,
    expires_at integer not null,
    unique (service, kind, entity, saga_id, step, message_id)
);

create index if not exists saga_lock_queue_place on saga_lock_queue (service, kind, entity, place);

create index if not exists saga_lock_queue_saga on saga_lock_queue (service, saga_id);

create index if not exists saga_lock_queue_expires on saga_lock_queue (expires_at);

create table if not exists saga_inbox (
    day text not null,
    service text not null,
    message_id text not null,
    subscriber text not null,
    primary key (day, service, message_id, subscriber)
) without rowid;
