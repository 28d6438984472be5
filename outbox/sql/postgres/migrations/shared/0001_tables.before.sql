-- PostgreSQL vacuums a table once a fifth of it is dead (autovacuum_vacuum_scale_factor). Here all rows die young, and the
-- fifth of a table that is nearly empty, or was full in an outage, says nothing: a number of rows does. The table's values
-- hold for its TOAST table too, as long as it has none of its own.
-- Headers are lines, a letter for each name and then the values; a tab stands for what the event's headers say. Where that
-- does not fit they are JSON.
create table if not exists saga_outbox (
    seq bigint generated always as identity primary key,
    id text not null,
    aggregatetype text not null,
    aggregateid text not null,
    type text not null,
    payload bytea,
    headers text not null,
    record bytea,
    record_headers text not null,
    service text not null,
    shard smallint,
    created_at timestamptz not null default clock_timestamp()
) with (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000);

create index if not exists saga_outbox_shard on saga_outbox (shard, seq) where shard is not null;

-- One message in a row, its headers in columns: what a connector reads out of the log. A number comes from saga_outbox,
-- so that the sequence of keyed events goes on when the connector takes over.
create table if not exists saga_outbox_cdc (
    seq bigint primary key,
    id text not null,
    aggregatetype text not null,
    aggregateid text not null,
    type text not null,
    payload bytea not null,
    ce_specversion text not null default '1.0',
    content_type text not null,
    ce_source text not null,
    ce_time text not null,
    ce_sagakind text not null,
    ce_sagaid text not null,
    ce_sagaplan text not null,
    ce_sagastep text not null,
    ce_sagabranch text not null,
    ce_sagatenant text not null,
    ce_sagalane text not null,
    ce_correlationid text not null,
    ce_causationid text not null,
    ce_expirytime text not null,
    ce_tenant text not null,
    ce_sequence text not null,
    traceparent text not null,
    created_at timestamptz not null default clock_timestamp()
) with (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000);

create table if not exists saga_delivery (
    id bigint generated always as identity primary key,
    service text not null,
    saga_id text not null,
    due_at timestamptz not null,
    reason text not null,
    attempt integer not null,
    error text not null,
    step text not null,
    message_id text not null,
    raw_topic text not null,
    raw_partition integer not null,
    raw_offset bigint not null,
    raw_key bytea,
    raw_value bytea,
    raw_headers text not null,
    first_at timestamptz,
    created_at timestamptz not null default clock_timestamp()
) with (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);

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
    id bigint generated always as identity primary key,
    at timestamptz not null,
    who text not null,
    why text not null,
    verb text not null,
    saga_id text not null,
    target text not null,
    before bytea not null,
    after bytea not null
);

create index if not exists saga_audit_saga on saga_audit (saga_id, id);

-- Few rows, renewed every few seconds. With half of the page left free (fillfactor) a new version goes beside the old one
-- without touching the index, and whoever reads the page next clears what is dead: no vacuum is needed for that.
create table if not exists saga_lease (
    name text primary key,
    owner text not null,
    until timestamptz not null
) with (fillfactor = 50);
