create table if not exists saga_instance (
    saga_id text collate "C" primary key,
    saga text not null,
    version integer not null,
    plan text not null,
    tenant text not null,
    phase text not null,
    partition integer not null,
    due_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    state bytea not null,
    revision integer not null
) with (fillfactor = 70);

create index if not exists saga_instance_due on saga_instance (partition, due_at) where due_at is not null;

create index if not exists saga_instance_started
    on saga_instance (coalesce(started_at, timestamptz 'infinity'), saga_id);

create index if not exists saga_instance_open
    on saga_instance (phase, coalesce(started_at, timestamptz 'infinity'), saga_id)
    where phase not in ('completed', 'compensated');

create table if not exists saga_cursor (
    partition integer primary key,
    position bigint not null,
    observed_until timestamptz
);

create table if not exists saga_plan (
    saga text not null,
    version integer not null,
    revision integer not null,
    hash text not null,
    body bytea not null,
    primary key (saga, version, revision)
);
