-- Part of a write. It tells nothing: nobody hands these rows over.
-- name: insert_captured
insert into saga_outbox_cdc
    (seq, id, aggregatetype, aggregateid, type, payload, content_type, ce_source, ce_time, ce_sagakind, ce_sagaid,
     ce_sagaplan, ce_sagastep, ce_sagabranch, ce_sagatenant, ce_sagalane, ce_correlationid, ce_causationid,
     ce_expirytime, ce_tenant, traceparent, ce_sequence)
select seq, id, aggregatetype, aggregateid, type, payload, content_type, ce_source, ce_time, ce_sagakind, ce_sagaid,
    ce_sagaplan, ce_sagastep, ce_sagabranch, ce_sagatenant, ce_sagalane, ce_correlationid, ce_causationid,
    ce_expirytime, ce_tenant, traceparent, case when sequenced then lpad(seq::text, 20, '0') else '' end
from (
    select nextval(pg_get_serial_sequence('saga_outbox', 'seq')) as seq, k.*
    from unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[], $8::text[], $9::text[],
        $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[],
        $18::text[], $19::text[], $20::text[], $21::boolean[]
    ) as k (
        id, aggregatetype, aggregateid, type, payload, content_type, ce_source, ce_time, ce_sagakind, ce_sagaid,
        ce_sagaplan, ce_sagastep, ce_sagabranch, ce_sagatenant, ce_sagalane, ce_correlationid, ce_causationid,
        ce_expirytime, ce_tenant, traceparent, sequenced
    )
) n
