-- Collation "C" compares bytes: quick, and the order in which Python sorts the keys.
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
    revision integer not null,
    primary key (saga_id, step, branch)
) with (fillfactor = 90);

create index if not exists saga_run_pending on saga_run (service, pending_at) where pending_at is not null;

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
);

create index if not exists saga_gate_expires on saga_gate (expires_at);
