create table parcel (
    parcel text primary key,
    order_id text not null unique,
    city text not null
);
