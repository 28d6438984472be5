-- name: migration_table
create table if not exists saga_migration (
    component text not null,
    number integer not null,
    name text not null,
    phase text not null,
    checksum text not null,
    applied_at timestamptz not null default clock_timestamp(),
    primary key (component, number)
)

-- name: migration_found
select to_regclass('saga_migration') is not null as found

-- name: migration_known
select component, number, name, phase, checksum, applied_at from saga_migration order by component, number

-- name: migration_applied
insert into saga_migration (component, number, name, phase, checksum) values ($1, $2, $3, $4, $5)

-- name: missing_grants
select k.relation, k.privilege, current_user::text as role
from unnest($1::text[], $2::text[]) with ordinality as k (relation, privilege, place)
where to_regclass(k.relation) is not null and not has_table_privilege(to_regclass(k.relation), k.privilege)
order by k.place
