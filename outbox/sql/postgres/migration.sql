-- name: migration_table
create table if not exists saga_migration (
    component text not null,
    number integer not null,
    name text not null,
    applied_at timestamptz not null default clock_timestamp(),
    primary key (component, number)
)

-- name: migration_known
select number from saga_migration where component = $1

-- name: migration_applied
insert into saga_migration (component, number, name) values ($1, $2, $3)
