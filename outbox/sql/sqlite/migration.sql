-- name: migration_table
create table if not exists saga_migration (
    component text not null,
    number integer not null,
    name text not null,
    applied_at integer not null,
    primary key (component, number)
)

-- name: migration_known
select number from saga_migration where component = ?1

-- name: migration_applied
insert into saga_migration (component, number, name, applied_at) values (?1, ?2, ?3, ?4)
