-- Each saga's row is updated for every batch that tells of it, nearly always within its first minutes: the room that
-- fillfactor leaves takes the next version on the same page, without touching an index where neither phase nor due_at
-- changes. Vacuumed at a twentieth of dead rows, not at a fifth: ended sagas stay for weeks and make that fifth large.
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
    revision integer not null,
    step text not null default '',
    error text not null default ''
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);

create index if not exists saga_instance_due on saga_instance (partition, due_at) where due_at is not null;

-- What is included is what lists are filtered by; it changes with the phase at most, and then the index is written anyway.
create index if not exists saga_instance_started
    on saga_instance (coalesce(started_at, timestamptz 'infinity'), saga_id)
    include (started_at, saga, version, tenant, phase);

create index if not exists saga_instance_open
    on saga_instance (phase, coalesce(started_at, timestamptz 'infinity'), saga_id)
    where phase not in ('completed', 'compensated');

-- For those who look at what has ended, or gone wrong. An entry of the first is written once, at a saga's end; of the
-- second only for sagas that were refused, failed or got stuck.
create index if not exists saga_instance_ended on saga_instance (ended_at, phase) where ended_at is not null;

create index if not exists saga_instance_troubled
    on saga_instance (coalesce(started_at, timestamptz 'infinity'), saga_id)
    where error <> '';

create table if not exists saga_cursor (
    partition integer primary key,
    position bigint not null,
    observed_until timestamptz
) with (fillfactor = 50);

create table if not exists saga_plan (
    saga text not null,
    version integer not null,
    revision integer not null,
    hash text not null,
    body bytea not null,
    stored_at timestamptz not null default clock_timestamp(),
    primary key (saga, version, revision)
);
