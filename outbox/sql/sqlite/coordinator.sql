-- name: load_instance
select * from saga_instance where saga_id = ?1

-- One look into the index for each partition.
-- name: next_due
select min(due_at) as due_at from (
    select (select min(i.due_at) from saga_instance i where i.partition = p.value and i.due_at is not null) as due_at
    from json_each(?1) p
)

-- name: due_instances
select i.* from saga_cursor c
join saga_instance i on i.partition = c.partition and i.due_at <= c.observed_until
where c.partition in (select value from json_each(?1))
order by i.due_at, i.saga_id
limit ?2

-- name: cursors
select partition, position, observed_until from saga_cursor where partition in (select value from json_each(?1))

-- name: insert_instance
insert into saga_instance
    (saga_id, saga, version, plan, tenant, phase, partition, due_at, started_at, ended_at, state, step, error, revision)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 1)

-- name: update_instance
update saga_instance set
    saga = ?2, version = ?3, plan = ?4, tenant = ?5, phase = ?6, partition = ?7, due_at = ?8, started_at = ?9,
    ended_at = ?10, state = ?11, step = ?12, error = ?13, revision = revision + 1
where saga_id = ?1 and revision = ?14

-- name: insert_cursor
insert into saga_cursor (partition, position, observed_until) values (?1, ?2, ?3)

-- name: update_cursor
update saga_cursor set position = ?2, observed_until = ?3 where partition = ?1 and position = ?4

-- What the hash does not cover may change within a revision.
-- name: put_plan
insert into saga_plan (saga, version, revision, hash, body, stored_at) values (?1, ?2, ?3, ?4, ?5, ?6)
on conflict (saga, version, revision) do update set body = excluded.body
where saga_plan.hash = excluded.hash and saga_plan.body <> excluded.body

-- name: plans
select saga, version, revision, hash, body from saga_plan order by saga, version, revision
