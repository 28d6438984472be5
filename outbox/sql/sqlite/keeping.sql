-- What is deleted by its age, ?1 rows at a time: what is older than ?2. ?3 is a day ago as text, ?4 is now.

-- A letter stays while its saga may be open: until its message's expiry, and as long as a gate asks for it.
-- name: prune_letters
delete from saga_delivery where id in (
    select d.id
    from saga_delivery d
    left join saga_gate g on g.saga_id = d.saga_id and g.service = d.service
    where d.reason = 'dead' and d.due_at < ?2
        and (g.keep_until is null or g.keep_until < ?4)
        and not (
            substr(d.raw_headers, instr(d.raw_headers, '"ce_expirytime","') + 17, 19) glob '[0-9][0-9][0-9][0-9]-[0-9][0-9]-*'
            and instr(d.raw_headers, '"ce_expirytime","') > 0
            and substr(d.raw_headers, instr(d.raw_headers, '"ce_expirytime","') + 17, 19) >= ?3
        )
    order by d.due_at
    limit ?1
)

-- name: prune_records
delete from saga_delivery where id in (
    select d.id
    from saga_delivery d
    where d.reason = 'dead' and d.due_at < ?2 and d.saga_id = ''
        and not (
            substr(d.raw_headers, instr(d.raw_headers, '"ce_expirytime","') + 17, 19) glob '[0-9][0-9][0-9][0-9]-[0-9][0-9]-*'
            and instr(d.raw_headers, '"ce_expirytime","') > 0
            and substr(d.raw_headers, instr(d.raw_headers, '"ce_expirytime","') + 17, 19) >= ?3
        )
    order by d.due_at
    limit ?1
)

-- name: prune_audits
delete from saga_audit where id in (select id from (select id, at from saga_audit order by id limit ?1) where at < ?2)

-- name: prune_instances
delete from saga_instance where saga_id in (
    select saga_id
    from saga_instance
    where (coalesce(started_at, 9223372036854775807) < ?2 or started_at is null)
        and phase in ('completed', 'compensated') and due_at is null and ended_at < ?2
        and substr(state, instr(state, cast('"expires":"' as blob)) + 11, 19) < cast(?3 as blob)
        and (
            instr(state, cast('"keep":"' as blob)) = 0
            or substr(state, instr(state, cast('"keep":"' as blob)) + 8, 19) < cast(?3 as blob)
        )
    order by coalesce(started_at, 9223372036854775807), saga_id
    limit ?1
)

-- name: prune_plans
delete from saga_plan where rowid in (
    select p.rowid
    from saga_plan p
    where exists (
            select 1 from saga_plan n
            where n.saga = p.saga and n.version = p.version and n.revision > p.revision and n.stored_at < ?2
        )
        and not exists (
            select 1 from saga_instance i where i.plan = p.hash and i.phase not in ('completed', 'compensated')
        )
    order by p.saga, p.version, p.revision
    limit ?1
)

-- A coordinator's database has no runs.
-- name: open_outbox
select
    (select count(*) from (select 1 from saga_outbox limit ?1)) as outbox_rows,
    (select created_at from saga_outbox order by seq limit 1) as oldest

-- name: open_rows
select
    (select count(*) from (select 1 from saga_outbox limit ?1)) as outbox_rows,
    (select count(*) from (
        select 1 from saga_delivery where reason in ('retry', 'delayed', 'locked', 'parked') limit ?2
    )) as waiting_deliveries,
    (select count(*) from (select 1 from saga_run where pending_at is not null limit ?3)) as open_runs,
    (select created_at from saga_outbox order by seq limit 1) as oldest
