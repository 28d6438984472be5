-- What `saga doctor` asks a server, with the rights of whoever runs it: what it may not see is left out.

-- name: checkup_server
select current_user::text as role, current_database()::text as database, pg_is_in_recovery() as standby,
    clock_timestamp() as now, d.datconnlimit as of_database, r.rolconnlimit as of_role,
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer as of_server,
    (select count(*) from pg_stat_activity where datname = current_database()) as in_database,
    (select count(*) from pg_stat_activity where usename = current_user) as by_role,
    (select count(*) from pg_stat_activity where backend_type = 'client backend') as at_server
from pg_database d, pg_roles r
where d.datname = current_database() and r.rolname = current_user

-- name: checkup_settings
select name, setting from pg_settings where name = any($1::text[])

-- name: checkup_transactions
select pid, coalesce(state, '?') as state, coalesce(usename::text, '?') as usename,
    coalesce(application_name, '') as application, extract(epoch from clock_timestamp() - xact_start)::float8 as seconds
from pg_stat_activity
where datname = current_database() and xact_start is not null and pid <> pg_backend_pid()
    and (backend_xmin is not null or backend_xid is not null)
order by xact_start
limit 5

-- name: checkup_held_back
select 'replication slot' as kind, slot_name::text as name,
    greatest(coalesce(age(xmin), 0), coalesce(age(catalog_xmin), 0)) as transactions
from pg_replication_slots where not active
union all
select 'prepared transaction', gid, age(transaction) from pg_prepared_xacts where database = current_database()

-- name: checkup_tables
select case when $1::text is null then relname::text else quote_ident(schemaname) || '.' || relname end as name, n_live_tup as live, n_dead_tup as dead,
    extract(epoch from clock_timestamp() - greatest(last_vacuum, last_autovacuum))::float8 as vacuumed
from pg_stat_user_tables
where relname like 'saga\_%' and schemaname = coalesce($1::text, current_schema())
order by relname

-- name: checkup_overdue
select coalesce(extract(epoch from clock_timestamp() - min(due_at)), 0)::float8 as seconds
from saga_instance where due_at is not null

-- name: checkup_stuck
select saga_id from saga_instance where phase = 'stuck' order by saga_id limit 1

-- name: checkup_untold
select saga_id, service, error, attempt, count(*) over () as sagas
from saga_delivery
where reason = 'retry' and step = '' and attempt > 0 and raw_topic like 'saga.outcomes%'
order by attempt desc, saga_id
limit 1
