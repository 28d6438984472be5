-- Times are microseconds since 1970 in UTC.
-- Headers are lines, a letter for each name and then the values; a tab stands for what the event's headers say. Where that
-- does not fit they are JSON.
create table if not exists saga_outbox (
    seq integer primary key autoincrement,
    id text not null,
    aggregatetype text not null,
    aggregateid text not null,
    type text not null,
    payload blob,
    headers text not null,
    record blob,
    record_headers text not null,
    service text not null,
    shard integer,
    created_at integer not null
);

create index if not exists saga_outbox_shard on saga_outbox (shard, seq) where shard is not null;

create table if not exists saga_delivery (
    id integer primary key autoincrement,
    service text not null,
    saga_id text not null,
    due_at integer not null,
    reason text not null,
    attempt integer not null,
    error text not null,
    step text not null,
    message_id text not null,
    raw_topic text not null,
    raw_partition integer not null,
    raw_offset integer not null,
    raw_key blob,
    raw_value blob,
    raw_headers text not null,
    first_at integer,
    created_at integer not null
);

create index if not exists saga_delivery_due on saga_delivery (service, due_at) where reason in ('retry', 'delayed', 'locked', 'parked');

create index if not exists saga_delivery_urgent on saga_delivery (service, due_at)
    where reason in ('retry', 'delayed', 'locked', 'parked') and raw_topic like '%.urgent';

create index if not exists saga_delivery_held on saga_delivery (service, saga_id) where reason in ('retry', 'locked', 'held');

create unique index if not exists saga_delivery_key on saga_delivery (service, saga_id, step, message_id)
    where reason in ('retry', 'delayed', 'locked', 'held') and message_id <> '';

create index if not exists saga_delivery_dead on saga_delivery (id) where reason = 'dead';

create index if not exists saga_delivery_died on saga_delivery (due_at) where reason = 'dead';

create index if not exists saga_delivery_saga on saga_delivery (saga_id);

create table if not exists saga_audit (
    id integer primary key autoincrement,
    at integer not null,
    who text not null,
    why text not null,
    verb text not null,
    saga_id text not null,
    target text not null,
    before blob not null,
    after blob not null
);

create index if not exists saga_audit_saga on saga_audit (saga_id, id);

create table if not exists saga_lease (
    name text primary key,
    owner text not null,
    until integer not null
);
