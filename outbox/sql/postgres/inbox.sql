-- The days that have a partition, today, and whether this user may make and drop them.
-- name: inbox_days
select (clock_timestamp() at time zone 'utc')::date as today, pg_has_role(p.relowner, 'USAGE') as owned,
    substring(c.relname from 'saga_inbox_(\d{8})$') as day
from pg_class p
left join pg_inherits i on i.inhparent = p.oid
left join pg_class c on c.oid = i.inhrelid
where p.oid = 'saga_inbox'::regclass

-- name: inbox_rest_days
select distinct day from saga_inbox_rest

-- name: lock_inbox
select pg_try_advisory_xact_lock(x'73616761696e626f'::bigint) as mine

-- name: add_inbox_day
create table if not exists saga_inbox_DAY partition of saga_inbox for values from ('DAY') to ('NEXT')

-- name: drop_inbox_day
drop table if exists saga_inbox_DAY

-- name: prune_inbox_rest
with old as (
    select ctid as place from saga_inbox_rest where day < $2 limit $1
), gone as (
    delete from saga_inbox_rest r using old where r.ctid = old.place returning 1
)
select count(*) as rows from gone
