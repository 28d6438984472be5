create table orders (
    order_id text primary key,
    amount integer not null,
    state text not null,
    reason text not null
);
