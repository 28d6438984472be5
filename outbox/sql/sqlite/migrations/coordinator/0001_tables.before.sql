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
    state blob not null,
    revision integer not null
);

create index if not exists saga_instance_due on saga_instance (partition, due_at) where due_at is not null;

create index if not exists saga_instance_started
    on saga_instance (coalesce(started_at, 9223372036854775807), saga_id);

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
