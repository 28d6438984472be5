-- name: migration_table
create table if not exists saga_migration (
    component text not null,
    number integer not null,
    name text not null,
    phase text not null,
    checksum text not null,
    applied_at integer not null,
    primary key (component, number)
)

-- name: migration_found
select count(*) > 0 as found from sqlite_master where type = 'table' and name = 'saga_migration'

-- name: migration_known
select component, number, name, phase, checksum, applied_at from saga_migration order by component, number

-- name: migration_applied
insert into saga_migration (component, number, name, phase, checksum, applied_at) values (?1, ?2, ?3, ?4, ?5, ?6)
