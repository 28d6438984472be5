create table payment (
    charge text primary key,
    order_id text not null unique,
    amount integer not null
);
