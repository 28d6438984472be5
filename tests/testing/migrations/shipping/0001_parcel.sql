create table parcel (order_id text primary key);
