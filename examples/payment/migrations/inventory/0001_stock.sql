create table stock (
    sku text primary key,
    initial integer not null,
    free integer not null check (free >= 0)
);
create table reservation (
    order_id text primary key,
    sku text not null,
    quantity integer not null,
    state text not null
);
insert into stock (sku, initial, free) values
    ('lamp', 100000, 100000),
    ('chair', 100000, 100000),
    ('last-vase', 1, 1),
    ('unicorn', 0, 0);
