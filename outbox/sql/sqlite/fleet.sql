-- name: coordinator_tables
select count(*) as n from sqlite_master where type = 'table' and name = 'saga_instance'

-- name: open_plans
select plan, count(*) as sagas from saga_instance where phase not in ('completed', 'compensated') group by plan

-- name: open_steps
select step, count(*) as sagas from (
    select r.step, r.saga_id from saga_run r
    where r.service = ?1 and r.pending_at is not null and r.plan = ?2
        and r.step in (select value from json_each(?3))
    union
    select r.step, r.saga_id from saga_run r
    where r.expires_at > ?5 and r.service = ?1 and r.plan = ?2 and r.step in (select value from json_each(?4))
        and r.status in ('done', 'intent', 'failed') and r.undo = 'none'
    union
    select d.step, d.saga_id from saga_delivery d
    where d.service = ?1 and d.reason <> 'dead' and d.step in (select value from json_each(?3))
        and instr(d.raw_headers, '["ce_sagaplan","' || ?2 || '"]') > 0
        and not exists (
            select 1 from saga_gate g where g.saga_id = d.saga_id and g.service = ?1 and g.state = 'closed'
        )
)
group by step

-- name: open_starts
select count(*) as sagas from saga_run
where service = ?1 and plan = ?2 and step = ?1 || '.start' and outcome is null and expires_at > ?3
