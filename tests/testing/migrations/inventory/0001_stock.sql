create table stock (sku text primary key, free integer not null check (free >= 0));
insert into stock (sku, free) values ('book', 3);
