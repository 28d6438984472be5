create table if not exists saga_instance (
    saga_id text primary key,
    saga text not null,
    version integer not null,
    plan text not null,
    tenant text not null,
    phase text not null,
    partition integer not null,
    due_at integer,
    started_at integer,
    ended_at integer,
    revision integer not null,
    step text not null default '',
    error text not null default '',
    state blob not null
);

create index if not exists saga_instance_due on saga_instance (partition, due_at) where due_at is not null;

-- With what lists of sagas ask for: they need not read the rows.
create index if not exists saga_instance_started
    on saga_instance (coalesce(started_at, 9223372036854775807), saga_id, phase, saga, version, tenant, ended_at);

-- An entry is written once, at a saga's end.
create index if not exists saga_instance_ended on saga_instance (ended_at, phase) where ended_at is not null;

-- Only those that were refused, failed or got stuck.
create index if not exists saga_instance_troubled
    on saga_instance (coalesce(started_at, 9223372036854775807), saga_id)
    where error <> '';

create table if not exists saga_cursor (
    partition integer primary key,
    position integer not null,
    observed_until integer
);

create table if not exists saga_plan (
    saga text not null,
    version integer not null,
    revision integer not null,
    hash text not null,
    body blob not null,
    stored_at integer not null,
    primary key (saga, version, revision)
);
